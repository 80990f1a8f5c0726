-- change_key: change a key's name, project, use, expiry, products or budget.
--
-- KEYS  1-6 as in lib, 7 op:<operation>, 8 key:<key id>
-- ARGV  2 digest of the content, 3 key id, 4 when it is too late (ms) or '', 5.. fields of the key's hash by name and value
-- Answers  key, {id, fields} as in admin's key_facts()
--          past                       it is too late
--          no_key                     the account has no such key
-- Callers  RedisLedger.change_key, RedisLedger.move_key
if ARGV[4] ~= '' and tonumber(ARGV[4]) <= NOW then
  return answer('past')
end
if call('EXISTS', KEYS[8]) == 0 then
  return answer('no_key')
end

-- From here it must succeed: only writes.
if #ARGV > 4 then
  call('HSET', KEYS[8], unpack(ARGV, 5))
end
return done('key', key_facts(KEYS[8], ARGV[3]))
