-- admit: judge the guards in their order and take the hold, in one step. A refusal writes nothing.
--
-- KEYS  1-6 as in lib, 7-8 as in guards, 9.. res:<kind>:<id> that must be the account's
-- ARGV  2-16 as in guards, 17 ms for which a free call is remembered, 18.. three for each rate: name, quota, window (ms)
-- Answers  admitted, hold, balance, held, rates ("remaining:reset seconds,..."), one resource hash each
--          refused, code[, seconds to retry after, name of the rate]
--          plan, tier, rate card      the account's plan is another one
--          conflict                   the hold has ended, or was taken for another request
-- Callers  RedisLedger.admit
local rates = {}
for i = 18, #ARGV, 3 do
  rates[#rates + 1] = {name = ARGV[i], field = 'rate.' .. ARGV[i], quota = tonumber(ARGV[i + 1]), window = tonumber(ARGV[i + 2])}
end
local fields = {'status', 'tier', 'rate_card', 'balance', 'held', 'open.' .. CLASS}
for i, rate in ipairs(rates) do
  fields[6 + i] = rate.field
end
local account = call('HMGET', ACCOUNT, unpack(fields))
local status, tier, rate_card, balance, held, open = unpack(account, 1, 6)

local function admitted(hold, balance_then, held_then, states)
  local reply = answer('admitted', hold, balance_then, held_then, states)
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
  local hold, digest, balance_then, held_then, states =
    string.match(record, '^1\31(%d+)\31[^\31]*\31[^\31]*\31(%x+)\31%d+\31(%-?%d+)\31(%d+)\31([^\31]*)\31')
  assert(hold, 'a hold of an unknown version')
  if digest ~= ARGV[3] then
    return answer('conflict')
  end
  return admitted(hold, balance_then, held_then, states)
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
local refusal, hold = judge(status, tier, rate_card, balance, held)
if refusal == 'plan' then
  return answer('plan', tier, rate_card)
end
if refusal then
  return answer('refused', refusal)
end
-- 6 rates: all are checked before any is counted
for i, rate in ipairs(rates) do
  local start, count = string.match(account[6 + i] or '', '^(%d+):(%d+)$')
  rate.start, rate.count = tonumber(start), tonumber(count)
  if not start or NOW < rate.start or NOW >= rate.start + rate.window then
    rate.start, rate.count = NOW, 0
  end
  rate.reset = math.ceil((rate.start + rate.window - NOW) / 1000)
  if rate.count >= rate.quota then
    return answer('refused', 'rate_limited', amount(math.max(1, rate.reset)), rate.name)
  end
end
-- 7 concurrency
if crowded(open) then
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
  call('HSET', ACCOUNT, rate.field, amount(rate.start) .. ':' .. amount(rate.count + 1))
  states[i] = amount(rate.quota - rate.count - 1) .. ':' .. amount(rate.reset)
end
states = table.concat(states, ',')
if METERED then
  held = take(hold, balance, held, states)
elseif #rates > 0 then
  call('SET', KEYS[7], '1 passed ' .. ARGV[3] .. ' ' .. balance .. ' ' .. held .. ' ' .. states, 'PX', ARGV[17])
end
return admitted(hold, balance, held, states)
