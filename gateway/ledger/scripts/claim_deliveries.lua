-- claim_deliveries: take deliveries of one account that are due, so that nobody else delivers them for a while.
--
-- KEYS  1-6 as in lib
-- ARGV  2 the most to take, 3 lease (ms)
-- Answers  claimed, the time (ms), {id, when it was due (ms), record} of each
-- Callers  RedisLedger.claim_deliveries
local due = call('ZRANGE', outbox().waiting, '-inf', amount(NOW), 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES')

-- From here it must succeed: only writes.
local claimed = {}
for i = 1, #due, 2 do
  local id = due[i]
  local its = outbox().read(id)
  if its.claimed == '' then
    its.claimed = '1'
    outbox().write(id, its)
  end
  call('ZADD', outbox().waiting, amount(NOW + ARGV[3]), id)
  claimed[#claimed + 1] = {id, due[i + 1], call('HGET', outbox().posts, id)}
end
outbox().tell_waits()
return answer('claimed', amount(NOW), claimed)
