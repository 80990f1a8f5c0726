-- claim_queued: give jobs that wait their places, first in, first out, so that nobody else submits them for a while.
--
-- KEYS  1-6 as in lib
-- ARGV  2 the most to claim, 3 lease (ms), 4.. three for each limit: class, tier, places
-- Answers  claimed, when to look again (ms) or '', {kind:id, hash, body, '1' if its key is in use} of each
--          unknown                    no such account
-- Callers  RedisLedger.claim_queued
local status, tier = unpack(call('HMGET', ACCOUNT, 'status', 'tier'), 1, 2)
if not status then
  return answer('unknown')
end
local limits = {}
for i = 4, #ARGV, 3 do
  if ARGV[i + 1] == tier then
    limits[ARGV[i]] = tonumber(ARGV[i + 2])
  end
end
local most, claimed = tonumber(ARGV[2]), {}

local function key_in_use(key_id)
  local disabled, expires = unpack(call('HMGET', BASE .. 'key:' .. key_id, 'disabled', 'expires'), 1, 2)
  return disabled == '0' and (expires == '' or tonumber(expires) > NOW) and '1' or '0'
end

-- From here it must succeed: only writes.
local function claim(member)
  local job = BASE .. 'res:' .. member
  call('ZADD', SUBMITTING, amount(NOW + ARGV[3]), member)
  claimed[#claimed + 1] = {member, call('HGETALL', job), call('GET', BASE .. 'body:' .. member) or '',
    key_in_use(call('HGET', job, 'key_id') or '')}
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
    while #claimed < most and (not limits[class] or open < limits[class]) do
      local member = call('ZRANGE', BASE .. 'queue:' .. class, 0, 0)[1]
      if not member then
        break
      end
      call('ZREM', BASE .. 'queue:' .. class, member)
      local hold = call('HGET', BASE .. 'res:' .. member, 'hold')
      local record = hold and call('HGET', HOLDS, hold)
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
