-- admit: judge the guards in their order and take the hold, in one step. A refusal writes nothing.
--
-- KEYS  1 as in lib, 2.. res:<kind>:<id> that must be the account's
-- ARGV  2-12 as in guards, 13.. three for each rate: name, quota, window (ms);
--       a quota that follows its use is "least:grow at:grow:shrink below:most", percent as in core.admission.Scaling
-- Answers  admitted or queued, hold, balance, held, rates ("remaining:reset seconds[:quota in force],..."), one resource hash each
--          refused, code[, seconds to retry after, name of the rate, its quota]
--          plan, tier, rate card, overrides    the account's plan is another one
--          conflict                   the hold has ended, or was taken for another request
-- Callers  RedisLedger.admit
local IDLE_WINDOWS_MAX = 100 -- as in core.admission
local FREE_CALL_MS = '60000' -- as in ledger/rules
local KEY_RATE = 'key' -- as in core.admission: each key is counted for itself, in its own hash

local fields = {'status', 'tier', 'rate_card', 'overrides', 'balance', 'held'}
for i = 13, #ARGV, 3 do
  fields[#fields + 1] = 'rate.' .. ARGV[i]
end
if CLASS ~= '' then
  fields[#fields + 1] = 'open.' .. CLASS
  fields[#fields + 1] = 'open.' .. CLASS .. '.queued'
end
local account = call('HMGET', ACCOUNT, unpack(fields))
local status, balance, held = account[1], account[5], account[6]
local plan = status and account[2] .. SEP .. account[3] .. SEP .. (account[4] or '')
local open, waiting
if CLASS ~= '' then
  open, waiting = account[#fields - 1], account[#fields]
end

-- The quota in force, as it follows its use ("least:grow at:grow:shrink below:most"): that of the last window (nil: the
-- least), and what has followed since.
local function scaled(terms, quota, used, elapsed, window)
  local least, grow_at, grow, shrink_below, most = string.match(terms, '^(%d+):(%d+):(%d+):(%d+):(%d+)$')
  least, grow_at, grow, shrink_below, most =
    tonumber(least), tonumber(grow_at), tonumber(grow), tonumber(shrink_below), tonumber(most)
  local step = 100 + grow
  -- The quota after a window in which `used` of it were counted.
  local function followed(quota, used)
    if used * 100 >= quota * grow_at then
      return math.min(most, math.floor((2 * quota * step + 100) / 200))
    elseif used * 100 < quota * shrink_below then
      return math.max(least, math.min(quota - 1, math.floor((200 * quota + step) / (2 * step))))
    end
    return quota
  end
  quota = math.max(least, math.min(quota or least, most))
  if not elapsed or elapsed < window then
    return quota
  end
  local idle = math.floor(elapsed / window) - 1
  if idle >= IDLE_WINDOWS_MAX then
    return least
  end
  quota = followed(quota, used)
  while idle > 0 and quota > least do
    quota, idle = followed(quota, 0), idle - 1
  end
  return quota
end

local function admitted(hold, balance_then, held_then, states, tag)
  local reply = answer(tag or 'admitted', hold, balance_then, held_then, states)
  for i = 2, #KEYS do
    local resource = call('HGETALL', KEYS[i])
    if #resource == 0 then
      return answer('refused', 'not_found')
    end
    reply[#reply + 1] = resource
  end
  return reply
end

-- The answer to a call that was seen before: the first one's, whatever the guards say now.
local function seen(past)
  if past then
    local digest, balance_then, held_then, states = string.match(past, '^1 passed (%x+) (%-?%d+) (%d+) ([%d:,]*)$')
    return digest == ARGV[3] and admitted('0', balance_then, held_then, states) or answer('conflict')
  end
  local record = call('HGET', HOLDS, ARGV[2])
  if not record then
    return nil
  end
  local hold, class, digest, balance_then, held_then, states =
    string.match(record, '^1\31(%d+)\31[^\31]*\31([^\31]*)\31(%x+)\31%d+\31(%-?%d+)\31(%d+)\31([^\31]*)\31')
  assert(hold, 'a hold of an unknown version')
  if digest ~= ARGV[3] then
    return answer('conflict')
  end
  return admitted(hold, balance_then, held_then, states, class == CLASS .. '.queued' and 'queued' or nil)
end
local past = call('GET', ENDING)
if past then
  return seen(past)
end

-- Guards 1 to 5
local refusal, hold = judge(status, plan, balance, held)
if refusal == 'plan' then
  return seen() or answer('plan', account[2], account[3], account[4] or '')
end
if refusal then
  return seen() or answer('refused', refusal)
end
-- 6 rates: all are checked before any is counted. A window is stored as "start:count[:quota]"; the request is in the
-- last one, or in one that starts now.
local counted, of_key, states = {}, nil, ''
for i = 13, #ARGV, 3 do
  local name, quota, window = ARGV[i], ARGV[i + 1], ARGV[i + 2] + 0
  local of_keys = name == KEY_RATE and call('HGET', KEY, 'rate')
  local start, count, quota_then = string.match(of_keys or account[7 + (i - 13) / 3] or '', '^(%d+):(%d+):?(%d*)$')
  local elapsed, in_force = start and NOW - start, ''
  if string.find(quota, ':', 1, true) then
    quota = scaled(quota, tonumber(quota_then), tonumber(count), elapsed, window)
    in_force = ':' .. amount(quota)
  end
  if not start or elapsed < 0 or elapsed >= window then
    start, count, elapsed = amount(NOW), 0, 0
  end
  local reset = math.ceil((window - elapsed) / 1000)
  if quota - count <= 0 then
    return seen() or answer('refused', 'rate_limited', amount(math.max(1, reset)), name, amount(quota))
  end
  local now_counted = start .. format(':%d', count + 1) .. in_force
  if name == KEY_RATE then
    of_key = now_counted
  else
    counted[#counted + 1] = 'rate.' .. name
    counted[#counted + 1] = now_counted
  end
  states = states .. (states == '' and '' or ',') .. format('%d:%d', quota - count - 1, reset) .. in_force
end
-- 7 concurrency: without a place it waits for one, behind those that do
local waits = crowded(open) or (METERED and tonumber(waiting or '0') > 0)
if waits and tonumber(waiting or '0') >= tonumber(QUEUED_MAX) then
  return seen() or answer('refused', 'too_many_concurrent')
end
-- 8 ownership
for i = 2, #KEYS do
  if call('EXISTS', KEYS[i]) == 0 then
    return seen() or answer('refused', 'not_found')
  end
end
local first = not METERED and seen()
if first then
  return first
end

-- From here it must succeed: only writes.
if METERED then
  held = take(hold, balance, held, states, waits and CLASS .. '.queued' or CLASS)
  if not held then
    return seen()
  end
elseif states ~= '' then
  call('SET', ENDING, '1 passed ' .. ARGV[3] .. ' ' .. balance .. ' ' .. held .. ' ' .. states, 'PX', FREE_CALL_MS)
end
if counted[1] then
  call('HSET', ACCOUNT, unpack(counted))
end
if of_key then
  call('HSET', KEY, 'rate', of_key)
end
return admitted(hold, balance, held, states, waits and 'queued' or nil)
