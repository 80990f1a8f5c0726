-- admit: judge the guards in their order and take the hold, in one step. A refusal writes nothing.
--
-- KEYS  1-6 as in lib, 7 end:<hold id>, 8 key:<key id>, 9.. res:<kind>:<id> that must be the account's
-- ARGV  2 hold id, 3 digest of the request, 4 tier, 5 rate card, 6 product, 7 entitled, 8 metered, 9 estimate,
--       10 overdraft, 11 covers estimate, 12 lease (ms), 13 key id, 14 price version, 15 concurrency class or '',
--       16 its limit, 17 ms for which a free call is remembered, 18.. three for each rate: name, quota, window (ms).
--       Flags are '1' or '0'.
-- Answers  admitted, hold, balance, held, rates ("remaining:reset seconds,..."), one resource hash each
--          refused, code[, seconds to retry after[, name of the rate]]
--          plan, tier, rate card      the account's plan is another one
--          conflict                   the hold has ended, or was taken for another request
-- Callers  RedisLedger.admit
local metered = ARGV[8] == '1'
local class = ARGV[15]

local rates = {}
for i = 18, #ARGV, 3 do
  rates[#rates + 1] = {name = ARGV[i], field = 'rate.' .. ARGV[i], quota = tonumber(ARGV[i + 1]), window = tonumber(ARGV[i + 2])}
end
local fields = {'status', 'tier', 'rate_card', 'balance', 'held', 'open.' .. class}
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

-- 1 the key is known
local disabled, expires, products, budget, month, spent, key_held = unpack(
  call('HMGET', KEYS[8], 'disabled', 'expires', 'products', 'budget', 'month', 'spent', 'held'), 1, 7)
if not status or not disabled then
  return answer('refused', 'unauthorized')
end
if tier ~= ARGV[4] or rate_card ~= ARGV[5] then
  return answer('plan', tier, rate_card)
end
-- 2 the key and the account are in use
if disabled == '1' or (expires ~= '' and tonumber(expires) <= NOW) then
  return answer('refused', 'key_disabled')
end
if status ~= 'active' then
  return answer('refused', 'account_suspended')
end
-- 3 the plan and the key have the product
if ARGV[7] ~= '1' or (products ~= '*' and not string.find(products, SEP .. ARGV[6] .. SEP, 1, true)) then
  return answer('refused', 'not_entitled')
end
local hold = '0'
if metered then
  -- 4 credit
  local estimate = tonumber(ARGV[9])
  local most = tonumber(balance) - tonumber(held) + tonumber(ARGV[10])
  if most <= 0 or (ARGV[11] == '1' and estimate > most) then
    return answer('refused', 'insufficient_credit')
  end
  -- 5 the key's budget
  if budget ~= '' then
    local budget_left = tonumber(budget) - tonumber(key_held)
    if month == month_now() then
      budget_left = budget_left - tonumber(spent)
    end
    if budget_left <= 0 then
      return answer('refused', 'key_budget_exceeded')
    end
    most = math.min(most, budget_left)
  end
  hold = estimate <= most and ARGV[9] or amount(most)
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
if metered and class ~= '' and tonumber(open or '0') >= tonumber(ARGV[16]) then
  return answer('refused', 'too_many_concurrent', '1')
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
if metered then
  if hold ~= '0' then
    held = add(ACCOUNT, 'held', hold)
    call('HINCRBY', KEYS[8], 'held', hold)
  end
  if class ~= '' then
    call('HINCRBY', ACCOUNT, 'open.' .. class, 1)
  end
  call('HSET', HOLDS, ARGV[2], table.concat({
    '1', hold, ARGV[13], class, ARGV[3], amount(NOW), balance, held, states, ARGV[6], ARGV[14]}, SEP))
  call('ZADD', DUE, amount(NOW + ARGV[12]), 'h:' .. ARGV[2])
elseif #rates > 0 then
  call('SET', KEYS[7], '1 passed ' .. ARGV[3] .. ' ' .. balance .. ' ' .. held .. ' ' .. states, 'PX', ARGV[17])
end
return admitted(hold, balance, held, states)
