-- deliveries: the account's deliveries that wait, the first one due first; or its dead letters, the newest first.
--
-- KEYS  1-6 as in lib
-- ARGV  2 'waiting' or 'dead', 3 the most to list, 4 delivery id: of that one alone, '' all
-- Answers  deliveries, the time (ms), {id, when it is due, or was given up (ms), record} of each
-- Callers  RedisLedger.deliveries
local found
local dead = ARGV[2] == 'dead'
if ARGV[4] ~= '' then
  local score = call('ZSCORE', dead and outbox().dead or outbox().waiting, ARGV[4])
  found = score and {ARGV[4], score} or {}
elseif dead then
  found = call('ZRANGE', outbox().dead, 0, ARGV[3] - 1, 'REV', 'WITHSCORES')
else
  found = call('ZRANGE', outbox().waiting, 0, ARGV[3] - 1, 'WITHSCORES')
end
local listed = {}
for i = 1, #found, 2 do
  listed[#listed + 1] = {found[i], found[i + 1], call('HGET', outbox().posts, found[i])}
end
return answer('deliveries', amount(NOW), listed)
