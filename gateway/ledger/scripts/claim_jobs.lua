-- claim_jobs: take open jobs of one account whose look is due, so that nobody else looks at them for a while.
--
-- KEYS  1-6 as in lib
-- ARGV  2 the most to take, 3 lease (ms)
-- Answers  claimed, the time (ms), the account's next look (ms) or '', {kind:id, when due (ms), hash} of each
-- Callers  RedisLedger.claim_jobs
local due = call('ZRANGE', JOBS, '-inf', amount(NOW), 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES')

-- From here it must succeed: only writes.
local claimed = {}
for i = 1, #due, 2 do
  local job = BASE .. 'res:' .. due[i]
  if call('HGET', job, 'state') == 'open' then
    call('ZADD', JOBS, amount(NOW + ARGV[3]), due[i])
    claimed[#claimed + 1] = {due[i], due[i + 1], call('HGETALL', job)}
  else
    call('ZREM', JOBS, due[i]) -- it was forgotten
  end
end
return answer('claimed', amount(NOW), call('ZRANGE', JOBS, 0, 0, 'WITHSCORES')[2] or '', claimed)
