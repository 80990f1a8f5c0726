-- admin: the prelude of the verbs that give credit, and of those that tell how an account or a key stands.

-- What is left of a call's charges after all that was corrected of them; nil where there is no charge. `left`: as far as
-- entry `last` ('' is nil); what came after it is read here.
local function left_of(call_id, last, left)
  left = tonumber(left)
  for _, line in ipairs(call('XRANGE', LEDGER, '(' .. last, '+')) do
    local entry = {}
    for i = 1, #line[2], 2 do
      entry[line[2][i]] = line[2][i + 1]
    end
    local counts = entry.kind == 'charge' or (entry.kind == 'correction' and left)
    if counts and cjson.decode(entry.data).call_id == call_id then
      left = (left or 0) - tonumber(entry.amount)
    end
  end
  return left
end

-- Add a grant by an entry of kind `why`: debt first, the rest remains. `back`: it had been spent. The
-- grant as grant answers it, the entry's id, the balance. A grant's record: 1 SEP kind SEP amount SEP priority SEP expiry
-- SEP created.
local function give(why, operation, kind, given, priority, expires, data, back)
  local debt = call('HGET', ACCOUNT, 'debt')
  local paid = tonumber(debt) < tonumber(given) and debt or given
  local left = paid == given and '0' or amount(tonumber(given) - tonumber(paid))
  local id = string.format('g%08d', call('HINCRBY', ACCOUNT, 'grants_made', 1))
  local record = table.concat({'1', kind, given, priority, expires, amount(NOW)}, SEP)
  if paid ~= '0' then
    call('HINCRBY', ACCOUNT, 'debt', '-' .. paid)
  end
  if left ~= '0' then
    call('HSET', GRANTS, id, record, id .. '.left', left)
    call('ZADD', BURN, priority, (expires == '' and '9999999999999' or string.format('%013.0f', expires)) .. ':' .. id)
    if expires ~= '' then
      call('ZADD', DUE, expires, 'g:' .. id)
    end
  end
  local balance = add(ACCOUNT, 'balance', given)
  local entry = enter(why, given, balance, operation, id .. ':' .. given, minus(paid), '', data)
  if kind == 'purchase' then
    call('HSET', ACCOUNT, 'topped_up', given)
  end
  watched = call('HGET', ACCOUNT, 'watch')
  if watched then
    watch().given_back(balance, given, kind, back)
  end
  return {id, record, left}, entry, balance
end

-- Plan, status and sums, then three for each grant in burn order: id, record, what remains.
local function standing()
  local facts = call('HMGET', ACCOUNT, 'tier', 'rate_card', 'status', 'balance', 'held', 'debt', 'created')
  facts[8] = amount(call('HLEN', HOLDS))
  facts[9] = call('HGET', ACCOUNT, 'overrides') or ''
  for _, member in ipairs(call('ZRANGE', BURN, 0, -1)) do
    local id = string.sub(member, 15)
    facts[#facts + 1] = id
    facts[#facts + 1] = call('HGET', GRANTS, id)
    facts[#facts + 1] = call('HGET', GRANTS, id .. '.left')
  end
  return facts
end

-- One key: id, name, disabled, expiry, products, budget, spent this month, held, created, project, pepper,
-- billing.
local function key_facts(key, id)
  local facts = call('HMGET', key, 'name', 'disabled', 'expires', 'products', 'budget', 'spent', 'held', 'created',
    'month', 'project', 'pepper', 'billing')
  if facts[9] ~= month_now() then
    facts[6] = '0'
  end
  -- keys that were made before there were projects, names of peppers, or a word on billing, have none
  facts[9], facts[10], facts[11], facts[12] = facts[10] or '', facts[11] or '', facts[12] or '', nil
  table.insert(facts, 1, id)
  return facts
end
