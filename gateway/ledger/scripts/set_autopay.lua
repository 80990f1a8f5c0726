-- set_autopay: change what autopay is set to. Failures are forgotten; an attempt under way stays under way.
--
-- KEYS  1-6 as in lib, 7 op:<operation>, 8 autopay
-- ARGV  2 digest of the content, 3.. fields of the hash by name and value
-- Answers  autopay, its hash
--          incoherent                 it would be on without a provider, or without a target above its threshold
-- Callers  RedisLedger.set_autopay
local set = {}
for i, field in ipairs({'enabled', 'threshold', 'target', 'provider'}) do
  set[field] = facts(field, i == 4 and '' or '0')
end
for i = 3, #ARGV, 2 do
  set[ARGV[i]] = ARGV[i + 1]
end
if set.enabled == '1' and (set.provider == '' or set.threshold == '0'
    or tonumber(set.threshold) >= tonumber(set.target)) then
  return answer('incoherent')
end

-- From here it must succeed: only writes.
call('HSET', AUTOPAY, 'v', '1', 'failures', '0', 'retry', '0', 'why', '', unpack(ARGV, 3))
if facts('state', 'idle') ~= 'charging' then
  call('HSET', AUTOPAY, 'state', 'idle')
end
return done('autopay', autopay_now())
