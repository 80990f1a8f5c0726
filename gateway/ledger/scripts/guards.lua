-- guards: the prelude of the verbs that take a hold: guards 1 to 5, and the hold itself.
--
-- ARGV of those verbs: ARGV 2 hold id, 3 digest of the request, 4 estimate, 5 key id, 6 tier SEP rate card SEP overrides,
--   7 entitled, metered, covers estimate ('1' or '0' each), 8 overdraft, 9 lease (ms), 10 product SEP price version, 11 '' or
--   "limit:how many may wait:limit of an account without credit (0: refused):concurrency class", 12 products that
--   the key must have, with SEP between them. From the plan on they are the same for all calls of it to a route.
local ENTITLED, METERED, COVERS = string.match(ARGV[7], '^(.)(.)(.)$')
METERED = METERED == '1'
local ENDING, KEY = BASE .. 'end:' .. ARGV[2], BASE .. 'key:' .. ARGV[5]
local CLASS, PLACES, QUEUED_MAX, WHEN_NEGATIVE = ''
if ARGV[11] ~= '' then
  PLACES, QUEUED_MAX, WHEN_NEGATIVE, CLASS = string.match(ARGV[11], '^(%d+):(%d+):(%d+):(.*)$')
end

-- Guards 1 to 5: why the call is refused ('plan': the account's plan is another one); else nil and how much to hold.
local function judge(status, plan, balance, held)
  -- 1 the key is known
  local key = call('HMGET', KEY, 'disabled', 'expires', 'products', 'budget')
  local disabled, expires, products, budget = key[1], key[2], key[3], key[4]
  if not status or not disabled then
    return 'unauthorized'
  end
  if plan ~= ARGV[6] then
    return 'plan'
  end
  -- 2 the key and the account are in use
  if disabled == '1' or (expires ~= '' and expires - NOW <= 0) then
    return 'key_disabled'
  end
  if status ~= 'active' then
    return 'account_suspended'
  end
  -- 3 the plan and the key have the product
  if ENTITLED ~= '1' then
    return 'not_entitled'
  end
  if products ~= '*' then
    for product in string.gmatch(ARGV[12], '[^\31]+') do
      if not string.find(products, SEP .. product .. SEP, 1, true) then
        return 'not_entitled'
      end
    end
  end
  if not METERED then
    return nil, '0'
  end
  -- 4 credit
  local estimate = ARGV[4] + 0
  local most = balance - held + ARGV[8]
  if most <= 0 and (WHEN_NEGATIVE or '0') ~= '0' then
    most, PLACES = 0, amount(math.min(tonumber(PLACES), tonumber(WHEN_NEGATIVE)))
  elseif most <= 0 or (COVERS == '1' and estimate > most) then
    return 'insufficient_credit'
  end
  -- 5 the key's budget
  if budget ~= '' then
    local month, spent, key_held = unpack(call('HMGET', KEY, 'month', 'spent', 'held'), 1, 3)
    local budget_left = budget - key_held
    if month == month_now() then
      budget_left = budget_left - spent
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

-- Take the hold; all that is held then. Nil, and nothing is written, where it was taken before.
local function take(hold, balance, held, states, class)
  local held_then = hold == '0' and held or amount(held + hold)
  local record = '1\31' .. hold .. SEP .. ARGV[5] .. SEP .. class .. SEP .. ARGV[3] .. SEP .. amount(NOW) .. SEP .. balance
    .. SEP .. held_then .. SEP .. states .. SEP .. ARGV[10]
  if call('HSETNX', HOLDS, ARGV[2], record) == 0 then
    return nil
  end
  if hold ~= '0' then
    call('HINCRBY', ACCOUNT, 'held', hold)
    call('HINCRBY', KEY, 'held', hold)
  end
  if class ~= '' then
    call('HINCRBY', ACCOUNT, 'open.' .. class, 1)
  end
  call('ZADD', DUE, NOW + ARGV[9], 'h:' .. ARGV[2])
  return held_then
end
