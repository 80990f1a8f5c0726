-- charge: the prelude of the verbs that take credit: settle, renew, correct.

-- How a hold stands towards a charge of this digest: its record while it is open; else the first receipt of this very
-- charge {entry id, amount, balance, late} and what was remembered after it; else how it ended that forbids the charge.
-- Nothing at all of a hold that has expired or was never seen.
local function stands(hold_id, ending, digest)
  local record = call('HGET', HOLDS, hold_id)
  if record then
    return record
  end
  local how, rest = string.match(call('GET', ending) or '', '^1 (%l+) ?(.*)$')
  if how == 'settled' then
    local first, entry, charged, balance, late, after = string.match(rest, '^(%x+) (%S+) (%d+) (%-?%d+) (1?)(.*)$')
    if first == digest then
      return nil, {entry, charged, balance, late}, after
    end
  end
  if how == 'settled' or how == 'released' then
    return nil, nil, nil, how
  end
end

-- Take an amount from the grants in burn order; what they do not cover becomes debt. What each gave ("id:amount,..."),
-- and the new debt. What the first grant does not cover becomes debt at once, which the grants then pay.
local function burn(charge)
  if charge == '0' then
    return '', '0'
  end
  local first = call('ZRANGE', BURN, 0, 0)[1]
  local id = first and string.sub(first, 15)
  if first then
    if call('HINCRBY', GRANTS, id .. '.left', '-' .. charge) > 0 then
      return id .. ':' .. charge, '0'
    end
    call('HINCRBY', GRANTS, id .. '.left', charge) -- it has less: as it was
  end
  local owed, burnt = charge, {}
  call('HINCRBY', ACCOUNT, 'debt', charge)
  while first and owed ~= '0' do
    local paid = call('HGET', GRANTS, id .. '.left')
    if tonumber(paid) > tonumber(owed) then
      paid = owed
      call('HINCRBY', GRANTS, id .. '.left', '-' .. paid)
    else
      spend(id, first)
    end
    burnt[#burnt + 1] = id .. ':' .. paid
    owed = add(ACCOUNT, 'debt', '-' .. paid)
    first = call('ZRANGE', BURN, 0, 0)[1]
    id = first and string.sub(first, 15)
  end
  return table.concat(burnt, ','), owed
end

-- Count an amount in what a key has spent this month.
local function count_spent(key, charge)
  local month = call('HGET', key, 'month')
  if month == month_now() then
    call('HINCRBY', key, 'spent', charge)
  elseif month then
    call('HSET', key, 'month', month_now(), 'spent', charge)
  end
end

-- Take an amount out of what a key has spent this month, not below zero.
local function count_back(key, given)
  local month, spent = unpack(call('HMGET', key, 'month', 'spent'), 1, 2)
  if month == month_now() then
    local taken = tonumber(spent) < tonumber(given) and spent or given
    call('HINCRBY', key, 'spent', minus(taken))
  end
end

-- Count a charge (or, below zero, what came back) in the usage of today: by product and key, in the HASH of the month,
-- which lives for USAGE_DAYS of ledger/rules after its last new line. `calls` is '1' for what begins to charge a call,
-- else '0': later slices of a session, corrections.
local USAGE_SECONDS = 400 * 86400
local function count_usage(product, key, charge, calls)
  local day = day_now()
  local usage = BASE .. 'usage:' .. string.sub(day, 1, 7)
  local line = string.sub(day, 9) .. SEP .. product .. SEP .. string.sub(key, #BASE + 5)
  call('HINCRBY', usage, line, charge)
  if call('HINCRBY', usage, line .. SEP .. 'n', calls) == tonumber(calls) then
    call('EXPIRE', usage, USAGE_SECONDS)
  end
end

-- Charge a hold (`record` while it is open), and end a job with it. The script has read `watched`. The receipt, as in
-- stands().
local function settle(hold_id, record, ending, digest, key, product, charge, data, job, usage, calls)
  local late, _, paid, rest = '1', nil, '', charge
  if record then
    late, _, paid, rest = '', close(hold_id, record, charge)
  end
  local moved, owed = burn(rest)
  if paid ~= '' then
    moved = moved == '' and paid or paid .. ',' .. moved
  end
  local balance = add(ACCOUNT, 'balance', minus(charge))
  count_spent(key, charge)
  count_usage(product, key, charge, calls)
  local entry = enter('charge', minus(charge), balance, hold_id, moved, owed, late, data)
  if watched then
    watch().charged(balance, charge, moved, key)
  end
  if job then
    mark(job, hold_id, 'settled', usage)
  end
  local receipt = digest .. ' ' .. entry .. ' ' .. charge .. ' ' .. balance .. ' ' .. late
  call('SET', ending, '1 settled ' .. receipt, 'EX', REMEMBER)
  return {entry, charge, balance, late}
end

-- Charge more, by an entry of its own. Its id, and the balance after it.
local function charge_more(operation, charge, key, data)
  local moved, owed = burn(charge)
  local balance = add(ACCOUNT, 'balance', minus(charge))
  local entry = enter('correction', minus(charge), balance, operation, moved, owed, '', data)
  watched = call('HGET', ACCOUNT, 'watch')
  if watched then
    watch().charged(balance, charge, moved, key)
  end
  return entry, balance
end
