-- change_key: change a key's name, project, use, expiry, products or budget.
--
-- KEYS  1-6 as in lib, 7 op:<operation>, 8 key:<key id>
-- ARGV  2 digest of the content, 3 key id, 4.. fields of the key's hash by name and value
-- Answers  key, {id, fields} as in admin's key_facts()
--          no_key                     the account has no such key
--          conflict, unknown          as in admin
-- Callers  RedisLedger.change_key
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
local first = seen()
if first then
  return first
end
if call('EXISTS', KEYS[8]) == 0 then
  return answer('no_key')
end

-- From here it must succeed: only writes.
if #ARGV > 3 then
  call('HSET', KEYS[8], unpack(ARGV, 4))
end
return done('key', key_facts(KEYS[8], ARGV[3]))
