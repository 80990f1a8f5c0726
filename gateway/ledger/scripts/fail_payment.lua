-- fail_payment: the attempt under way came to nothing: put autopay off, or disable it after so many failures.
--
-- KEYS  1-6 as in lib, 7 autopay
-- ARGV  2 attempt, 3 why, 4 ms until the next attempt after the first failure, doubled by each more, 5 the most of them,
--       6 how many failures disable it
-- Answers  autopay, its hash          unchanged where the attempt is not under way
-- Callers  RedisLedger.fail_payment
if facts('state') ~= 'charging' or facts('attempt') ~= ARGV[2] then
  return answer('autopay', autopay_now())
end

-- From here it must succeed: only writes.
local failures, wait = tonumber(facts('failures', '0')) + 1, tonumber(ARGV[4])
for _ = 2, failures do
  wait = math.min(wait * 2, tonumber(ARGV[5]))
end
call('HSET', AUTOPAY, 'state', failures >= tonumber(ARGV[6]) and 'disabled' or 'failed', 'failures', amount(failures),
  'retry', amount(NOW + math.min(wait, tonumber(ARGV[5]))), 'why', ARGV[3])
return answer('autopay', autopay_now())
