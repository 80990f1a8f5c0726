-- queued: the account's jobs that wait for their place, the next one first, class by class.
--
-- KEYS  1-6 as in lib
-- ARGV  2 the most to list
-- Answers  queued, {kind:id, ...}
-- Callers  RedisLedger.queued
local waiting = call('ZRANGE', SUBMITTING, 0, ARGV[2] - 1)
for _, class in ipairs(classes()) do
  local left = ARGV[2] - #waiting
  for _, member in ipairs(left > 0 and call('ZRANGE', BASE .. 'queue:' .. class, 0, left - 1) or {}) do
    waiting[#waiting + 1] = member
  end
end
return answer('queued', waiting)
