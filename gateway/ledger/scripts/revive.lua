-- revive: deliver a dead letter after all, from its first attempt on.
--
-- KEYS  1-6 as in lib
-- ARGV  2 delivery id, 3 token of this call, so that its repeat over a broken connection answers the same
-- Answers  revived, '1' if it was a dead letter, else '0'
-- Callers  RedisLedger.revive
local its = outbox().read(ARGV[2])
if not its or not call('ZSCORE', outbox().dead, ARGV[2]) then
  return answer('revived', its and its.by == ARGV[3] and '1' or '0')
end

-- From here it must succeed: only writes.
its.by, its.claimed, its.attempts, its.why = ARGV[3], '', '0', ''
outbox().write(ARGV[2], its)
call('ZREM', outbox().dead, ARGV[2])
call('ZADD', outbox().waiting, amount(NOW), ARGV[2])
outbox().tell_waits()
return answer('revived', '1')
