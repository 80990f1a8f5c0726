-- lapse: at hand in every script, as lapse(): grants whose time is over while there are holds that were made before.
--
-- What those holds rest on is kept, so that no charge makes a debt of credit that was there when its call was admitted.
-- Nobody else is offered it: it burns last, and each of those holds takes its part along when it ends: what its charge
-- does not take of that expires. Nothing is stored of it: the grant stands in `due`, at its end, for as long as something
-- of it is kept. All that is kept of grants that ended by some time is never more than holds that were made until then.
local LAST = 1000001 -- LAPSED_PRIORITY of ledger/rules
local kept_of, kept = {}, 0 -- {grant id, its end (ms)} that this script has met, sooner ones first; what is kept of all

local function member(id, ends)
  return string.format('%013.0f:%s', ends, id)
end

-- Take so much off a grant, of which so much is left, by an entry: its id, and the balance after it.
local function expire(id, ends, left, taken, operation, data)
  local rest = left - taken
  if rest == 0 then
    spend(id, member(id, ends))
  else
    call('HINCRBY', GRANTS, id .. '.left', amount(-taken))
  end
  local off = minus(amount(taken))
  local balance = add(ACCOUNT, 'balance', off)
  operation = operation or 'expiry:' .. id .. (rest == 0 and '' or ':' .. amount(rest))
  return enter('grant_expiry', off, balance, operation, id .. ':' .. amount(taken), '0', '', data or '{}'), balance
end

-- A hold of so much ends: what pays its charge ("id:amount,..."), and what is left of the charge.
local function let_go(held, created, charge)
  local paid, owed, expired = {}, tonumber(charge), false
  for _, grant in ipairs(kept_of) do
    local id, ends = grant[1], grant[2]
    local left = created <= ends and tonumber(call('HGET', GRANTS, id .. '.left')) or 0
    local pays = math.min(left, owed)
    held = math.max(0, held - pays)
    local goes = math.min(held, left - pays)
    owed, held, kept = owed - pays, held - goes, kept - pays - goes
    if goes > 0 then
      expire(id, ends, left, goes)
      expired = true
    end
    if pays > 0 then
      paid[#paid + 1] = id .. ':' .. amount(pays)
      if pays == left - goes then
        spend(id, member(id, ends))
      else
        call('HINCRBY', GRANTS, id .. '.left', amount(-pays))
      end
    end
  end
  if expired and call('HEXISTS', ACCOUNT, 'watch') == 1 then
    watch().look(call('HGET', ACCOUNT, 'balance'), {})
  end
  return table.concat(paid, ','), amount(owed)
end

-- The time of a grant is over: take off what no hold rests on. How much that was; and, where it is more than nothing or
-- an operation's, the entry's id and the balance after it.
local function over(id, ends, operation, data)
  local left = tonumber(call('HGET', GRANTS, id .. '.left'))
  local rests = math.max(0, tonumber(call('HGET', ACCOUNT, 'held')) - kept)
  local taken = math.max(0, left - rests)
  if taken < left then
    kept_of[#kept_of + 1], kept, lapsed = {id, ends}, kept + left - taken, let_go
    call('ZADD', BURN, LAST, member(id, ends))
  end
  if taken > 0 or operation then
    return taken, expire(id, ends, left, taken, operation, data)
  end
  return taken
end

return {over = over}
