-- holds: the account's open holds, soonest expiry first.
--
-- KEYS  1-6 as in lib
-- ARGV  none but lib's
-- Answers  holds, {id, record, expiry (ms)} of each
-- Callers  RedisLedger.holds
local holds = {}
local due = call('ZRANGE', DUE, 0, -1, 'WITHSCORES')
for i = 1, #due, 2 do
  if string.sub(due[i], 1, 2) == 'h:' then
    local id = string.sub(due[i], 3)
    holds[#holds + 1] = {id, call('HGET', HOLDS, id), due[i + 1]}
  end
end
return answer('holds', holds)
