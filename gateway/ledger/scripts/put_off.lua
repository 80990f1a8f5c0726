-- put_off: a delivery that waits is tried again later.
--
-- KEYS  1-6 as in lib
-- ARGV  2 delivery id, 3 ms from now, 4 why ('': as before), 5 '1' if there was an attempt, else '0', 6 token of this call,
--       so that its repeat over a broken connection counts no second attempt
-- Answers  put_off                    also where it does not wait
-- Callers  RedisLedger.put_off
local its = call('ZSCORE', outbox().waiting, ARGV[2]) and outbox().read(ARGV[2])
if not its or its.by == ARGV[6] then
  return answer('put_off')
end

-- From here it must succeed: only writes.
its.by, its.claimed = ARGV[6], ''
if ARGV[4] ~= '' then
  its.why = ARGV[4]
end
if ARGV[5] == '1' then
  its.attempts = amount(its.attempts + 1)
end
outbox().write(ARGV[2], its)
call('ZADD', outbox().waiting, amount(NOW + ARGV[3]), ARGV[2])
outbox().tell_waits()
return answer('put_off')
