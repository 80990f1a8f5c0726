-- watch: at hand in every script, as watch(): finds the crossings that an account's watches wait for, in the step that
-- makes them, and posts each to the watch's channel, once until it has recovered.
--
-- Keys of the account's slot, derived from BASE:
--   watches    HASH    watch id -> 1 SEP kind SEP amount SEP channel SEP told SEP data (JSON). `told` names, with blanks
--                      between, what was told and has not recovered: 'below', a day, a month, grants, <key id>:<month>
-- Fields of the account's hash, only where they are needed:
--   watch      "<highest balance below which there is something to tell>:<d: spending, g: grants, k: keys are watched>"
--   alerts     how many crossings were posted
--   topped_up  the last purchase
--   day, day_spent, month, month_spent    what was spent, counted while it is watched
local WATCHES = BASE .. 'watches'
local HEADROOM_MIN = 1000000000 -- as in rules
local SPENDING = {spent_day = 'day', spent_month = 'month'}
local LETTERS = {spent_day = 'd', spent_month = 'd', grant_nearly_spent = 'g', key_budget = 'k'}

-- So many percent of an amount, rounded down. The product itself may be too large to be exact.
local function percent_of(number, percent)
  local rest = number % 100
  return math.floor((number - rest) / 100) * percent + math.floor(rest * percent / 100)
end

local function read_watch(id, record)
  local its = {id = id}
  its.kind, its.amount, its.channel, its.told, its.data =
    string.match(record, '^1\31([^\31]*)\31(%d+)\31([^\31]*)\31([^\31]*)\31(.*)$')
  assert(its.kind, 'a watch of an unknown version')
  its.limit = tonumber(its.amount)
  return its
end

local function write_watch(its)
  call('HSET', WATCHES, its.id, table.concat({'1', its.kind, its.amount, its.channel, its.told, its.data}, SEP))
end

-- All watches, in the order of their ids.
local function read_watches()
  local watches, flat = {}, call('HGETALL', WATCHES)
  for i = 1, #flat, 2 do
    watches[#watches + 1] = read_watch(flat[i], flat[i + 1])
  end
  table.sort(watches, function(a, b) return a.id < b.id end)
  return watches
end

-- The balance below which a watch tells; nil where it has none.
local function threshold_of(its)
  if its.kind == 'balance_below' then
    return its.limit
  elseif its.kind == 'balance_below_percent' then
    local topped_up = call('HGET', ACCOUNT, 'topped_up')
    return topped_up and percent_of(tonumber(topped_up), its.limit)
  end
end

-- Note what the next charge must look at.
local function arm(watches)
  local highest, letters = nil, {}
  for _, its in ipairs(watches) do
    local threshold = its.told == '' and threshold_of(its)
    if threshold and (not highest or threshold > highest) then
      highest = threshold
    end
    letters[LETTERS[its.kind] or ''] = true
  end
  if #watches == 0 then
    call('HDEL', ACCOUNT, 'watch')
  else
    call('HSET', ACCOUNT, 'watch', (highest and amount(highest) or '') .. ':' .. (letters.d and 'd' or '')
      .. (letters.g and 'g' or '') .. (letters.k and 'k' or ''))
  end
end

local function was_told(its, token)
  return string.find(' ' .. its.told .. ' ', ' ' .. token .. ' ', 1, true) ~= nil
end

-- Post a crossing. `token` is what is told of until it recovers, `value` the figure that crossed.
local function tell(its, token, subject, value, balance)
  its.told, its.changed = its.told == '' and token or its.told .. ' ' .. token, true
  local number = call('HINCRBY', ACCOUNT, 'alerts', 1)
  outbox().post('alert:' .. its.id .. ':' .. amount(number), its.channel, cjson.encode({watch = its.id, kind = its.kind,
    amount = its.amount, subject = subject, value = value, balance = balance, at = NOW}), 0)
end

-- Forget what was told of and is gone: the words that `stays` does not say yes to.
local function prune(its, stays)
  local kept = {}
  for token in string.gmatch(its.told, '%S+') do
    kept[#kept + 1] = stays(token) and token or nil
  end
  its.told = table.concat(kept, ' ')
end

-- What each kind looks at. `what` is what happened: `moved` what a charge took from grants, `key` that it charged,
-- `given` the kind of what was given, `swept` for a sweep.
local judges = {}

function judges.balance_below(its, balance, what)
  local threshold, now = threshold_of(its), tonumber(balance)
  if threshold and its.told == '' and now < threshold then
    tell(its, 'below', '', balance, balance)
  elseif threshold and its.told ~= '' and what.given and now >= threshold then
    -- What a session gives back at its end is no recovery: the next one takes it again. Nor is a charge that leaves it.
    if what.given ~= 'correction' or now >= threshold + math.max(percent_of(threshold, 10), HEADROOM_MIN) then
      its.told, its.changed = '', true
    end
  end
end

judges.balance_below_percent = judges.balance_below

function judges.spent_day(its, balance)
  local period = SPENDING[its.kind]
  local current = period == 'day' and day_now() or month_now()
  local counted, spent = unpack(call('HMGET', ACCOUNT, period, period .. '_spent'), 1, 2)
  if counted == current and tonumber(spent) >= its.limit and its.told ~= current then
    its.told = ''
    tell(its, current, current, spent, balance)
  end
end

judges.spent_month = judges.spent_day

local function grant_stays(id)
  return call('HEXISTS', GRANTS, id) == 1
end

function judges.grant_nearly_spent(its, balance, what)
  for id in string.gmatch(what.moved or '', '(g%d+):') do
    local record, left = unpack(call('HMGET', GRANTS, id, id .. '.left'), 1, 2)
    local given = record and tonumber(string.match(record, '^1\31[^\31]*\31(%d+)\31'))
    if not was_told(its, id) and (not given or tonumber(left) <= given - percent_of(given, its.limit)) then
      tell(its, id, id, left or '0', balance)
    end
  end
  if its.changed then
    prune(its, grant_stays)
  end
end

function judges.grant_expiring(its, balance, what)
  if not what.swept then
    return
  end
  for _, member in ipairs(call('ZRANGE', BURN, 0, -1)) do
    local id, expires = string.sub(member, 15), tonumber(string.sub(member, 1, 13))
    if expires > NOW and expires <= NOW + its.limit * 86400000 and not was_told(its, id) then
      tell(its, id, id, call('HGET', GRANTS, id .. '.left'), balance)
    end
  end
  if its.changed then
    prune(its, grant_stays)
  end
end

function judges.key_budget(its, balance, what)
  local budget, spent, month = unpack(what.key and call('HMGET', what.key, 'budget', 'spent', 'month') or {}, 1, 3)
  if not budget or budget == '' or tonumber(spent) < percent_of(tonumber(budget), its.limit) then
    return
  end
  local id = string.sub(what.key, #BASE + 5)
  if not was_told(its, id .. ':' .. month) then
    tell(its, id .. ':' .. month, id, spent, balance)
    prune(its, function(token) return string.sub(token, -8) == ':' .. month end)
  end
end

-- Look at every watch after what happened.
local function look(balance, what)
  local watches, changed = read_watches(), false
  for _, its in ipairs(watches) do
    if judges[its.kind] then -- the others are events, which whoever learns of them posts
      judges[its.kind](its, balance, what)
    end
    if its.changed then
      write_watch(its)
      changed = true
    end
  end
  if changed then
    arm(watches)
  end
end

-- Count what was charged (or, with a sign, given back) in what the account has spent this day and month.
local function count_spending(charge)
  for period, current in pairs({day = day_now(), month = month_now()}) do
    if call('HGET', ACCOUNT, period) == current then
      call('HINCRBY', ACCOUNT, period .. '_spent', charge)
    else
      call('HSET', ACCOUNT, period, current, period .. '_spent', charge)
    end
  end
end

-- Begin to count what the account spends: what the usage of this month (charge.lua) has of it and of this day.
local function begin_spending()
  local day = day_now()
  call('HSET', ACCOUNT, 'day', day, 'day_spent', '0', 'month', month_now(), 'month_spent', '0')
  local lines = call('HGETALL', BASE .. 'usage:' .. month_now())
  for i = 1, #lines, 2 do
    local line, spent = lines[i], lines[i + 1]
    if string.sub(line, -2) ~= SEP .. 'n' then -- that is how many calls they were
      call('HINCRBY', ACCOUNT, 'month_spent', spent)
      if string.sub(line, 1, 2) == string.sub(day, 9) then
        call('HINCRBY', ACCOUNT, 'day_spent', spent)
      end
    end
  end
end

-- Look at the watches that a charge concerns. Only where the account has the field `watch`. No `key`: what is taken back
-- of a payment, which is not spent.
local function charged(balance, charge, moved, key)
  local threshold, letters = string.match(watched, '^(%-?%d*):(%l*)$')
  if key and string.find(letters, 'd', 1, true) then
    count_spending(charge)
  end
  if letters ~= '' or (threshold ~= '' and tonumber(balance) < tonumber(threshold)) then
    look(balance, {moved = moved, key = key})
  end
end

-- Look at the watches after credit was given: the balance may have recovered. Only where there is the field `watch`.
-- `back`: it had been spent.
local function given_back(balance, given, kind, back)
  if back and string.find(watched, 'd', 1, true) then
    count_spending(minus(given))
  end
  look(balance, {given = kind})
  if kind == 'purchase' then
    arm(read_watches()) -- a percentage is of another amount now
  end
end

return {key = WATCHES, spending = SPENDING, read = read_watch, all = read_watches, write = write_watch, arm = arm,
  begin_spending = begin_spending, look = look, charged = charged, given_back = given_back}
