-- delivered: a delivery is done, whoever did it: forget it, and remember its id.
--
-- KEYS  1-6 as in lib
-- ARGV  2 delivery id
-- Answers  delivered                  now or before
-- Callers  RedisLedger.delivered
if call('HEXISTS', outbox().posts, ARGV[2]) == 0 then
  return answer('delivered')
end

-- From here it must succeed: only writes.
call('HDEL', outbox().posts, ARGV[2])
call('ZREM', outbox().waiting, ARGV[2])
call('ZREM', outbox().dead, ARGV[2])
call('SET', BASE .. 'sent:' .. ARGV[2], '1', 'EX', REMEMBER)
return answer('delivered')
