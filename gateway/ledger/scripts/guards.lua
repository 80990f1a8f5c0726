-- guards: the prelude of the verbs that take a hold: guards 1 to 5, and the hold itself.
--
-- KEYS of those verbs: KEYS 7 end:<hold id>, 8 key:<key id>.
-- ARGV of those verbs: ARGV 2 hold id, 3 digest of the request, 4 estimate, 5 key id, 6 tier, 7 rate card, 8 product,
--   9 entitled, 10 metered, 11 overdraft, 12 covers estimate, 13 lease (ms), 14 price version, 15 concurrency class
--   or '', 16 its limit, how many may wait, the limit of an account without credit (0: refused) with ':' between them,
--   17 other products that the key must have too, with SEP between them, 18 overrides. Flags are '1' or '0'.
--   From the tier on they are the same for all calls of a plan to a route.
local METERED, CLASS = ARGV[10] == '1', ARGV[15]
local PLACES, QUEUED_MAX, WHEN_NEGATIVE = string.match(ARGV[16], '^(%d+):(%d+):(%d+)$')

-- Guards 1 to 5: why the call is refused ('plan': the account's plan is another one); else nil and how much to hold.
local function judge(status, tier, rate_card, overrides, balance, held)
  -- 1 the key is known
  local disabled, expires, products, budget, month, spent, key_held = unpack(
    call('HMGET', KEYS[8], 'disabled', 'expires', 'products', 'budget', 'month', 'spent', 'held'), 1, 7)
  if not status or not disabled then
    return 'unauthorized'
  end
  if tier ~= ARGV[6] or rate_card ~= ARGV[7] or (overrides or '') ~= ARGV[18] then
    return 'plan'
  end
  -- 2 the key and the account are in use
  if disabled == '1' or (expires ~= '' and tonumber(expires) <= NOW) then
    return 'key_disabled'
  end
  if status ~= 'active' then
    return 'account_suspended'
  end
  -- 3 the plan and the key have the product
  if ARGV[9] ~= '1' then
    return 'not_entitled'
  end
  if products ~= '*' then
    for product in string.gmatch(ARGV[8] .. SEP .. ARGV[17], '[^\31]+') do
      if not string.find(products, SEP .. product .. SEP, 1, true) then
        return 'not_entitled'
      end
    end
  end
  if not METERED then
    return nil, '0'
  end
  -- 4 credit
  local estimate = tonumber(ARGV[4])
  local most = tonumber(balance) - tonumber(held) + tonumber(ARGV[11])
  if most <= 0 and WHEN_NEGATIVE ~= '0' then
    most, PLACES = 0, amount(math.min(tonumber(PLACES), tonumber(WHEN_NEGATIVE)))
  elseif most <= 0 or (ARGV[12] == '1' and estimate > most) then
    return 'insufficient_credit'
  end
  -- 5 the key's budget
  if budget ~= '' then
    local budget_left = tonumber(budget) - tonumber(key_held)
    if month == month_now() then
      budget_left = budget_left - tonumber(spent)
    end
    if budget_left <= 0 then
      return 'key_budget_exceeded'
    end
    most = math.min(most, budget_left)
  end
  return nil, estimate <= most and ARGV[4] or amount(most)
end

-- Whether all places of the class are taken, of which `open` are.
local function crowded(open)
  return METERED and CLASS ~= '' and tonumber(open or '0') >= tonumber(PLACES)
end

-- Take the hold; all that is held then.
local function take(hold, balance, held, states, class)
  if hold ~= '0' then
    held = add(ACCOUNT, 'held', hold)
    call('HINCRBY', KEYS[8], 'held', hold)
  end
  if class ~= '' then
    call('HINCRBY', ACCOUNT, 'open.' .. class, 1)
  end
  call('HSET', HOLDS, ARGV[2], table.concat({
    '1', hold, ARGV[5], class, ARGV[3], amount(NOW), balance, held, states, ARGV[8], ARGV[14]}, SEP))
  call('ZADD', DUE, amount(NOW + ARGV[13]), 'h:' .. ARGV[2])
  return held
end
