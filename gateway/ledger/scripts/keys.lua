-- keys: the account's keys as they stand now.
--
-- KEYS  1-6 as in lib, 7 keys; each key:<key id> is derived
-- ARGV  none but lib's
-- Answers  keys, {id, fields} of each, as in admin's key_facts()
-- Callers  RedisLedger.keys
local keys = {}
for i, id in ipairs(call('SMEMBERS', KEYS[7])) do
  keys[i] = key_facts(BASE .. 'key:' .. id, id)
end
return answer('keys', keys)
