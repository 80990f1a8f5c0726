-- keys: the account's keys as they stand now.
--
-- KEYS  1-6 as in lib, 7 keys; each key:<key id> is derived
-- ARGV  none but lib's
-- Answers  keys, {id, fields} of each, as in admin's key_facts()
--          more                       there was more to end than one script may: ask again
--          unknown                    no such account
-- Callers  RedisLedger.keys
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
if ended + ended_grants == ENDED_MAX then
  return answer('more')
end
local keys = {}
for i, id in ipairs(call('SMEMBERS', KEYS[7])) do
  keys[i] = key_facts(BASE .. 'key:' .. id, id)
end
return answer('keys', keys)
