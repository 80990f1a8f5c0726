-- settle: charge a hold's usage, once: end the hold, burn grants, write the entry.
--
-- KEYS  1-6 as in lib, 7 end:<hold id>, 8 key:<key id> that is charged, 9 res:<kind>:<id> of the job (if any)
-- ARGV  2 hold id, 3 digest of the charge, 4 amount, 5 what the entry explains (JSON), 6 usage for the job (JSON)
-- Answers  settled, entry id, amount, balance, late ('1' or '')    of this call, or of the first with this charge
--          conflict, how              the hold was settled with another charge, or released
--          unknown                    no such account
-- Callers  RedisLedger.settle
local record = call('HGET', HOLDS, ARGV[2])
local late = ''
if not record then
  late = '1'
  local past = call('GET', KEYS[7])
  local how, rest = string.match(past or '', '^1 (%l+) ?(.*)$')
  if how == 'settled' then
    local digest, entry, charged, balance, first_late = string.match(rest, '^(%x+) (%S+) (%d+) (%-?%d+) (1?)$')
    if digest == ARGV[3] then
      return answer('settled', entry, charged, balance, first_late)
    end
    return answer('conflict', how)
  elseif how == 'released' then
    return answer('conflict', how)
  end
end
local debt = call('HGET', ACCOUNT, 'debt')
if not debt then
  return answer('unknown')
end

-- From here it must succeed: only writes.
if record then
  close(ARGV[2], record)
end

-- What the first grant does not cover becomes debt, which the grants then pay in burn order.
local charge = ARGV[4]
local owed, burnt = '0', {}
if charge ~= '0' then
  local first = call('ZRANGE', BURN, 0, 0)[1]
  local id = first and string.sub(first, 15)
  if first and tonumber(call('HGET', GRANTS, id .. '.left')) > tonumber(charge) then
    call('HINCRBY', GRANTS, id .. '.left', '-' .. charge)
    burnt[1] = id .. ':' .. charge
  else
    call('HINCRBY', ACCOUNT, 'debt', charge)
    owed = charge
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
  end
end
local balance = add(ACCOUNT, 'balance', minus(charge))

local month = call('HGET', KEYS[8], 'month')
if month == month_now() then
  call('HINCRBY', KEYS[8], 'spent', charge)
elseif month then
  call('HSET', KEYS[8], 'month', month_now(), 'spent', charge)
end

local entry = enter('charge', minus(charge), balance, ARGV[2], table.concat(burnt, ','), owed, late, ARGV[5])
if KEYS[9] then
  mark(KEYS[9], ARGV[2], 'settled', ARGV[6])
end
call('SET', KEYS[7], table.concat({'1 settled', ARGV[3], entry, charge, balance, late}, ' '), 'EX', REMEMBER)
return answer('settled', entry, charge, balance, late)
