-- put_key: make a key of the account. It cannot be used before the caller has written its digest (another slot).
--
-- KEYS  1-6 as in lib, 7 op:<operation>, 8 key:<key id>, 9 keys
-- ARGV  2 digest of the content, 3 key id, 4 when it is too late (ms) or '', 5.. fields of the key's hash by name and value
-- Answers  key, {id, fields} as in admin's key_facts()
--          past                       it is too late
--          exists                     made by another operation
-- Callers  RedisLedger.put_key
if ARGV[4] ~= '' and tonumber(ARGV[4]) <= NOW then
  return answer('past')
end
if call('EXISTS', KEYS[8]) == 1 then
  return answer('exists')
end

-- From here it must succeed: only writes.
call('HSET', KEYS[8], 'v', '1', 'spent', '0', 'held', '0', 'month', month_now(), 'created', amount(NOW), unpack(ARGV, 5))
call('SADD', KEYS[9], ARGV[3])
return done('key', key_facts(KEYS[8], ARGV[3]))
