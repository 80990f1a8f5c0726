-- revive: deliver a dead letter after all, from its first attempt on.
--
-- KEYS  1-6 as in lib
-- ARGV  2 delivery id, 3 token of this call, so that its repeat over a broken connection answers the same
-- Answers  revived, '1' if it was a dead letter, else '0'
--          unknown                    no such account
-- Callers  RedisLedger.revive
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
local its = read_post(ARGV[2])
if not its or not call('ZSCORE', DEAD, ARGV[2]) then
  return answer('revived', its and its.by == ARGV[3] and '1' or '0')
end

-- From here it must succeed: only writes.
its.by, its.claimed, its.attempts, its.why = ARGV[3], '', '0', ''
write_post(ARGV[2], its)
call('ZREM', DEAD, ARGV[2])
call('ZADD', OUTBOX, amount(NOW), ARGV[2])
tell_waits()
return answer('revived', '1')
