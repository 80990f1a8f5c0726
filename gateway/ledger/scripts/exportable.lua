-- exportable: the next entries of an account that a sink of the export has not had, and what else is stored of it at the
-- same moment. Stands alone: it ends nothing that is over, and reads what is there however wrong it is.
--
-- KEYS  1-6 as in lib, 7 exported, 8 keys; autopay, watches, each key:<key id> and volume:<month> are derived, in the
--       same slot
--   exported  HASH  sink -> id of the last entry that it has had; <sink>.changes -> the account's changes then
-- ARGV  2 sink, 3 how many entries, 4 '1' if what else is stored is asked for, 5.. months of volumes
-- Answers  page, 0, entries, changes, id of the last entry there is or '', account hash, autopay hash, watches hash,
--            exported hash, {key id, hash} of each key, {month, hash} of the volumes of each month; all hashes empty where not asked for
--          unknown, 0                 no such account
-- Callers  RedisLedger.exportable
local changes, created = unpack(redis.call('HMGET', KEYS[1], 'changes', 'created'), 1, 2)
if not created then
  return {'unknown', 0}
end
local base = string.sub(KEYS[1], 1, -8)
local cursor = redis.call('HGET', KEYS[7], ARGV[2])
local entries = redis.call('XRANGE', KEYS[6], cursor and cursor ~= '' and '(' .. cursor or '-', '+', 'COUNT', ARGV[3])
local last = redis.call('XREVRANGE', KEYS[6], '+', '-', 'COUNT', 1)[1]
local account, autopay, watches, exported, keys, volumes = {}, {}, {}, {}, {}, {}
if ARGV[4] == '1' then
  account = redis.call('HGETALL', KEYS[1])
  autopay, watches = redis.call('HGETALL', base .. 'autopay'), redis.call('HGETALL', base .. 'watches')
  exported = redis.call('HGETALL', KEYS[7])
  for i, id in ipairs(redis.call('SMEMBERS', KEYS[8])) do
    keys[i] = {id, redis.call('HGETALL', base .. 'key:' .. id)}
  end
  for i = 5, #ARGV do
    volumes[i - 4] = {ARGV[i], redis.call('HGETALL', base .. 'volume:' .. ARGV[i])}
  end
end
return {'page', 0, entries, changes or '0', last and last[1] or '', account, autopay, watches, exported, keys,
  volumes}
