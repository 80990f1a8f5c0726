-- payments: the prelude of the verbs that credit a payment and take it back.
--
-- KEYS of those verbs: KEYS 7 pay:<provider>:<payment>.
--   pay:...  HASH with TTL    v; amount, and the grant (id, record, left) of its first answer, once it is credited;
--                    by.<source> what a refund or dispute takes all in all, closed.<source> '1' if that is final;
--                    taken what was taken back, moves how many entries did so, why and data of what was said last
local PAYMENT = KEYS[7]

-- What all sources take of a payment of this amount, if one of them takes `said`: never more than it was.
local function taken_by_all(paid, source, said)
  local sum = source and tonumber(said) or 0
  local known = call('HGETALL', PAYMENT)
  for i = 1, #known, 2 do
    if string.sub(known[i], 1, 3) == 'by.' and known[i] ~= 'by.' .. (source or '') then
      sum = sum + tonumber(known[i + 1])
    end
  end
  return math.min(sum, tonumber(paid))
end

-- Write the entry that makes what is taken back what the sources say; what is taken back then.
local function even(operation, priority)
  local paid, before, data = unpack(call('HMGET', PAYMENT, 'amount', 'taken', 'data'), 1, 3)
  local change = taken_by_all(paid or '0') - tonumber(before or '0')
  if change == 0 then
    return before or '0'
  end
  operation = operation .. ':' .. amount(call('HINCRBY', PAYMENT, 'moves', 1))
  if change > 0 then
    charge_more(operation, amount(change), nil, data)
  else
    give('correction', operation, 'correction', amount(-change), priority, '', data)
  end
  return add(PAYMENT, 'taken', amount(change))
end
