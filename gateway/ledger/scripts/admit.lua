-- admit: judge the guards in their order and take the hold, in one step. A refusal writes nothing.
--
-- KEYS  1-6 as in lib, 7-8 as in guards, 9.. res:<kind>:<id> that must be the account's
-- ARGV  2-18 as in guards, 19 ms for which a free call is remembered, 20.. three for each rate: name, quota, window (ms);
--       a quota that follows its use is "least:grow at:grow:shrink below:most", percent as in core.admission.Scaling
-- Answers  admitted or queued, hold, balance, held, rates ("remaining:reset seconds[:quota in force],..."), one resource hash each
--          refused, code[, seconds to retry after, name of the rate, its quota]
--          plan, tier, rate card, overrides    the account's plan is another one
--          conflict                   the hold has ended, or was taken for another request
-- Callers  RedisLedger.admit
local IDLE_WINDOWS_MAX = 100 -- as in core.admission

local rates = {}
for i = 20, #ARGV, 3 do
  rates[#rates + 1] = {name = ARGV[i], field = 'rate.' .. ARGV[i], quota = ARGV[i + 1], window = tonumber(ARGV[i + 2])}
end
local fields = {'status', 'tier', 'rate_card', 'overrides', 'balance', 'held', 'open.' .. CLASS, 'open.' .. CLASS .. '.queued'}
for i, rate in ipairs(rates) do
  fields[8 + i] = rate.field
end
local account = call('HMGET', ACCOUNT, unpack(fields))
local status, tier, rate_card, overrides, balance, held, open, waiting = unpack(account, 1, 8)

-- The quota after a window in which `used` of it were counted.
local function followed(rate, quota, used)
  local step = 100 + rate.grow
  if used * 100 >= quota * rate.grow_at then
    return math.min(rate.most, math.floor((2 * quota * step + 100) / 200))
  elseif used * 100 < quota * rate.shrink_below then
    return math.max(rate.least, math.min(quota - 1, math.floor((200 * quota + step) / (2 * step))))
  end
  return quota
end

-- The quota in force: that of the last window (nil: the least), and what has followed since.
local function scaled(rate, quota, used, elapsed)
  quota = math.max(rate.least, math.min(quota or rate.least, rate.most))
  if not elapsed or elapsed < rate.window then
    return quota
  end
  local idle = math.floor(elapsed / rate.window) - 1
  if idle >= IDLE_WINDOWS_MAX then
    return rate.least
  end
  quota = followed(rate, quota, used)
  while idle > 0 and quota > rate.least do
    quota, idle = followed(rate, quota, 0), idle - 1
  end
  return quota
end

-- Find the window that this request is in, as it is stored ("start:count[:quota]"), or one that starts now.
local function look(rate, stored)
  local start, count, quota = string.match(stored or '', '^(%d+):(%d+):?(%d*)$')
  rate.start, rate.count = tonumber(start), tonumber(count)
  local elapsed = start and NOW - rate.start
  if string.find(rate.quota, ':', 1, true) then
    local least, grow_at, grow, shrink_below, most = string.match(rate.quota, '^(%d+):(%d+):(%d+):(%d+):(%d+)$')
    rate.least, rate.grow_at, rate.grow = tonumber(least), tonumber(grow_at), tonumber(grow)
    rate.shrink_below, rate.most = tonumber(shrink_below), tonumber(most)
    rate.quota = scaled(rate, tonumber(quota), rate.count, elapsed)
    rate.in_force = ':' .. amount(rate.quota)
  else
    rate.quota, rate.in_force = tonumber(rate.quota), ''
  end
  if not start or elapsed < 0 or elapsed >= rate.window then
    rate.start, rate.count = NOW, 0
  end
end

local function admitted(hold, balance_then, held_then, states, tag)
  local reply = answer(tag or 'admitted', hold, balance_then, held_then, states)
  for i = 9, #KEYS do
    local resource = call('HGETALL', KEYS[i])
    if #resource == 0 then
      return answer('refused', 'not_found')
    end
    reply[#reply + 1] = resource
  end
  return reply
end

-- Seen before?
local record = call('HGET', HOLDS, ARGV[2])
if record then
  local hold, class, digest, balance_then, held_then, states =
    string.match(record, '^1\31(%d+)\31[^\31]*\31([^\31]*)\31(%x+)\31%d+\31(%-?%d+)\31(%d+)\31([^\31]*)\31')
  assert(hold, 'a hold of an unknown version')
  if digest ~= ARGV[3] then
    return answer('conflict')
  end
  return admitted(hold, balance_then, held_then, states, class == CLASS .. '.queued' and 'queued' or nil)
end
local past = call('GET', KEYS[7])
if past then
  local digest, balance_then, held_then, states = string.match(past, '^1 passed (%x+) (%-?%d+) (%d+) ([%d:,]*)$')
  if digest ~= ARGV[3] then
    return answer('conflict')
  end
  return admitted('0', balance_then, held_then, states)
end

-- Guards 1 to 5
local refusal, hold = judge(status, tier, rate_card, overrides, balance, held)
if refusal == 'plan' then
  return answer('plan', tier, rate_card, overrides or '')
end
if refusal then
  return answer('refused', refusal)
end
-- 6 rates: all are checked before any is counted
for i, rate in ipairs(rates) do
  look(rate, account[8 + i])
  rate.reset = math.ceil((rate.start + rate.window - NOW) / 1000)
  if rate.count >= rate.quota then
    return answer('refused', 'rate_limited', amount(math.max(1, rate.reset)), rate.name, amount(rate.quota))
  end
end
-- 7 concurrency: without a place it waits for one, behind those that do
local waits = crowded(open) or (METERED and tonumber(waiting or '0') > 0)
if waits and tonumber(waiting or '0') >= tonumber(QUEUED_MAX) then
  return answer('refused', 'too_many_concurrent')
end
-- 8 ownership
for i = 9, #KEYS do
  if call('EXISTS', KEYS[i]) == 0 then
    return answer('refused', 'not_found')
  end
end

-- From here it must succeed: only writes.
local states = {}
for i, rate in ipairs(rates) do
  call('HSET', ACCOUNT, rate.field, amount(rate.start) .. ':' .. amount(rate.count + 1) .. rate.in_force)
  states[i] = amount(rate.quota - rate.count - 1) .. ':' .. amount(rate.reset) .. rate.in_force
end
states = table.concat(states, ',')
if METERED then
  held = take(hold, balance, held, states, waits and CLASS .. '.queued' or CLASS)
elseif #rates > 0 then
  call('SET', KEYS[7], '1 passed ' .. ARGV[3] .. ' ' .. balance .. ' ' .. held .. ' ' .. states, 'PX', ARGV[19])
end
return admitted(hold, balance, held, states, waits and 'queued' or nil)
