-- state: everything stored of an account at one moment, but for its entries. Stands alone: it ends nothing that is
-- over, so that it can be read however wrong it is.
--
-- KEYS  1-6 as in lib, 7 keys; each key:<key id>, usage:<month>, volume:<month> and refunds are derived, in the same slot
-- ARGV  2.. months
-- Answers  state, 0, account hash, holds hash, due with scores, grants hash, burn with scores,
--            {key id, hash} of each key, {month, hash of usage, hash of volumes} of each month, refunds hash, id of the
--            last entry or ''
--          unknown, 0                 no such account
-- Callers  RedisLedger.verify
local account = redis.call('HGETALL', KEYS[1])
if #account == 0 then
  return {'unknown', 0}
end
local base = string.sub(KEYS[1], 1, -8)
local keys = {}
for i, id in ipairs(redis.call('SMEMBERS', KEYS[7])) do
  keys[i] = {id, redis.call('HGETALL', base .. 'key:' .. id)}
end
local months = {}
for i = 2, #ARGV do
  months[i - 1] = {ARGV[i], redis.call('HGETALL', base .. 'usage:' .. ARGV[i]),
    redis.call('HGETALL', base .. 'volume:' .. ARGV[i])}
end
local last = redis.call('XREVRANGE', KEYS[6], '+', '-', 'COUNT', 1)[1]
return {'state', 0, account, redis.call('HGETALL', KEYS[2]), redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'),
  redis.call('HGETALL', KEYS[4]), redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES'), keys, months,
  redis.call('HGETALL', base .. 'refunds'), last and last[1] or ''}
