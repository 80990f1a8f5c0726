-- claim_queued: give jobs that wait their places, first in, first out, so that nobody else submits them for a while.
--
-- KEYS  1-6 as in lib
-- ARGV  2 the most to claim, 3 lease (ms), 4.. four for each limit: class, tier, places, places of those for which nothing
--       is held while the account has no credit
-- Answers  claimed, when to look again (ms) or '', {kind:id, hash, body, '1' if its key is in use, '1' if its hold is open}
--                                     of each
--          unknown                    no such account
-- Callers  RedisLedger.claim_queued
local status, tier, overrides, balance, held = unpack(
  call('HMGET', ACCOUNT, 'status', 'tier', 'overrides', 'balance', 'held'), 1, 5)
if not status then
  return answer('unknown')
end
local limits, when_negative = {}, {}
for i = 4, #ARGV, 4 do
  if ARGV[i + 1] == tier then
    limits[ARGV[i]], when_negative[ARGV[i]] = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  end
end
-- What the account has in place of its tier's, as core.overrides writes it: a number, or 'none'.
for class, limit, value in string.gmatch(overrides or '', '([^=\31]+)%.([%l_]+)=([^\31]*)') do
  if limit == 'concurrency' then
    limits[class] = tonumber(value)
  elseif limit == 'when_negative' then
    when_negative[class] = tonumber(value)
  end
end
local without_credit = tonumber(balance) - tonumber(held) <= 0
local WITHOUT_CREDIT = 1 -- as in rules
local most, claimed = tonumber(ARGV[2]), {}

local function key_in_use(key_id)
  local disabled, expires = unpack(call('HMGET', BASE .. 'key:' .. key_id, 'disabled', 'expires'), 1, 2)
  return disabled == '0' and (expires == '' or tonumber(expires) > NOW) and '1' or '0'
end

-- Whether the class has a place for the first in its queue, of which `open` are taken.
local function has_place(class, record, open)
  local places = limits[class]
  if record and without_credit and string.find(record, '^1\31' .. '0\31') then
    places = math.min(places or WITHOUT_CREDIT, when_negative[class] or WITHOUT_CREDIT)
  end
  return not places or open < places
end

-- From here it must succeed: only writes.
local function claim(member)
  local job = BASE .. 'res:' .. member
  local key_id, hold = unpack(call('HMGET', job, 'key_id', 'hold'), 1, 2)
  call('ZADD', SUBMITTING, amount(NOW + ARGV[3]), member)
  claimed[#claimed + 1] = {member, call('HGETALL', job), call('GET', BASE .. 'body:' .. member) or '',
    key_in_use(key_id or ''), amount(call('HEXISTS', HOLDS, hold or ''))}
end

if status == 'active' then
  for _, member in ipairs(call('ZRANGE', SUBMITTING, '-inf', amount(NOW), 'BYSCORE', 'LIMIT', 0, most)) do
    if call('HGET', BASE .. 'res:' .. member, 'state') == 'queued' then
      claim(member)
    else
      call('ZREM', SUBMITTING, member)
    end
  end
  for _, class in ipairs(classes()) do
    local open = tonumber(call('HGET', ACCOUNT, 'open.' .. class) or '0')
    while #claimed < most do
      local member = call('ZRANGE', BASE .. 'queue:' .. class, 0, 0)[1]
      local hold = member and call('HGET', BASE .. 'res:' .. member, 'hold')
      local record = hold and call('HGET', HOLDS, hold)
      if not member or not has_place(class, record, open) then
        break
      end
      call('ZREM', BASE .. 'queue:' .. class, member)
      if record then
        local before, after = string.match(record, '^(1\31%d+\31[^\31]*\31)[^\31]*(\31.*)$')
        call('HSET', HOLDS, hold, before .. class .. after)
        call('HINCRBY', ACCOUNT, 'open.' .. class .. '.queued', -1)
        open = call('HINCRBY', ACCOUNT, 'open.' .. class, 1)
        claim(member)
      end
    end
  end
end
return answer('claimed', next_look(), claimed)
