-- queued: the account's jobs that wait for their place, the next one first, class by class.
--
-- KEYS  1-6 as in lib
-- ARGV  none
-- Answers  queued, {kind:id, ...}
--          unknown                    no such account
-- Callers  RedisLedger.queued
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
local waiting = call('ZRANGE', SUBMITTING, 0, -1)
for _, class in ipairs(classes()) do
  for _, member in ipairs(call('ZRANGE', BASE .. 'queue:' .. class, 0, -1)) do
    waiting[#waiting + 1] = member
  end
end
return answer('queued', waiting)
