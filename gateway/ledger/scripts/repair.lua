-- repair: make an account's numbers agree again, by an entry that says so: its balance is what is asked for, grants and
-- debt are levelled to it, and what follows from records (holds, what ends when, what burns first) is counted anew.
--
-- KEYS  1-6 as in lib, 7 op:<operation>, 8 keys
-- ARGV  2 digest of the content, 3 operation, 4 id of the last entry or '', 5 the balance as it stands, 6 as it shall be,
--       7 amount of the entry, 8 what it explains (JSON), 9.. four for each number of a HASH of the account that is set:
--       'key:<key id>' or 'usage:<month>', field, value, '' or the TTL (s) of a hash that is new
-- Answers  repaired, {entry id, balance}
--          moved                      the account is another one than was looked at: look again
-- Callers  RedisLedger.repair
local last = call('XREVRANGE', LEDGER, '+', '-', 'COUNT', 1)[1]
if (last and last[1] or '') ~= ARGV[4] or call('HGET', ACCOUNT, 'balance') ~= ARGV[5] then
  return answer('moved')
end

-- From here it must succeed: only writes.
-- Holds: all sums and orders follow from their records. One whose end is not known ends now.
local held, key_held, open = 0, {}, {}
for _, id in ipairs(call('SMEMBERS', KEYS[8])) do
  key_held[id] = 0
end
for _, field in ipairs(call('HKEYS', ACCOUNT)) do
  if string.sub(field, 1, 5) == 'open.' then
    open[field] = 0
  end
end
local holds = call('HGETALL', HOLDS)
for i = 1, #holds, 2 do
  local of_hold, key_id, class = string.match(holds[i + 1], '^1\31(%d+)\31([^\31]*)\31([^\31]*)\31')
  assert(of_hold, 'a hold of an unknown version')
  held = held + of_hold
  key_held[key_id] = key_held[key_id] and key_held[key_id] + of_hold
  if class ~= '' then
    open['open.' .. class] = (open['open.' .. class] or 0) + 1
  end
  call('ZADD', DUE, 'NX', amount(NOW), 'h:' .. holds[i])
end
call('HSET', ACCOUNT, 'held', amount(held), 'balance', ARGV[6])
for id, sum in pairs(key_held) do
  call('HSET', BASE .. 'key:' .. id, 'held', amount(sum))
end
for field, count in pairs(open) do
  call('HSET', ACCOUNT, field, amount(count))
end
-- Grants: each is where its record says.
local have = -call('HGET', ACCOUNT, 'debt')
call('DEL', BURN)
for _, id in ipairs(call('HKEYS', GRANTS)) do
  if string.sub(id, -5) ~= '.left' then
    local left = tonumber(call('HGET', GRANTS, id .. '.left') or '0')
    local priority, expires = string.match(call('HGET', GRANTS, id), '^1\31[^\31]*\31%d+\31(%-?%d+)\31(%d*)\31')
    assert(priority, 'a grant of an unknown version')
    if left > 0 then
      have = have + left
      call('ZADD', BURN, priority, (expires == '' and '9999999999999' or string.format('%013.0f', expires)) .. ':' .. id)
      if expires ~= '' then
        call('ZADD', DUE, expires, 'g:' .. id)
      end
    else
      call('HDEL', GRANTS, id, id .. '.left')
    end
  end
end
for _, over in ipairs(call('ZRANGE', DUE, 0, -1)) do
  local of = string.sub(over, 1, 2) == 'h:' and HOLDS or GRANTS
  if call('HEXISTS', of, string.sub(over, 3)) == 0 then
    call('ZREM', DUE, over)
  end
end
-- They and the debt are levelled to the balance.
local missing = tonumber(ARGV[6]) - have
if missing > 0 then
  local paid = math.min(missing, tonumber(call('HGET', ACCOUNT, 'debt')))
  call('HINCRBY', ACCOUNT, 'debt', amount(-paid))
  if missing > paid then
    local id = string.format('g%08d', call('HINCRBY', ACCOUNT, 'grants_made', 1))
    local left = amount(missing - paid)
    call('HSET', GRANTS, id, table.concat({'1', 'correction', left, '50', '', amount(NOW)}, SEP), id .. '.left', left)
    call('ZADD', BURN, '50', '9999999999999:' .. id)
  end
elseif missing < 0 then
  burn(amount(-missing))
end
-- What was counted of charges.
for i = 9, #ARGV, 4 do
  local name = BASE .. ARGV[i]
  call('HSET', name, ARGV[i + 1], ARGV[i + 2])
  if ARGV[i + 3] ~= '' then
    call('EXPIRE', name, ARGV[i + 3], 'NX')
  end
end
local entry = enter('correction', ARGV[7], ARGV[6], ARGV[3], '', '0', '', ARGV[8])
if call('HEXISTS', ACCOUNT, 'watch') == 1 then
  watch().look(ARGV[6], {})
end
return done('repaired', {entry, ARGV[6]})
