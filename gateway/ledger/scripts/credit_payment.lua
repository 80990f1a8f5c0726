-- credit_payment: credit a payment, once. Debt is paid first; what was taken back of it before is taken back now.
--
-- KEYS  1-6 as in lib, 7 pay:<provider>:<payment>, 8 autopay
-- ARGV  2 operation, 3 amount, 4 attempt of autopay that made it or '', 5 what the entry explains (JSON), 6 priority,
--       7 the most an account may hold, 8 seconds for which it is known, 9 priority of what a reversal gives back,
--       10.. tiers that it changes, each by the tier that it changes to
-- Answers  credited, {id, record, what remains}    of the grant, as it was made
--          too_much                   the balance would pass the most
--          conflict                   it was credited with another amount
--          unknown                    no such account
-- Callers  RedisLedger.credit_payment
local tier, balance = unpack(call('HMGET', ACCOUNT, 'tier', 'balance'), 1, 2)
if not tier then
  return answer('unknown')
end
local before, id, record, left = unpack(call('HMGET', PAYMENT, 'amount', 'grant', 'record', 'left'), 1, 4)
if before then
  if before ~= ARGV[3] then
    return answer('conflict')
  end
  return answer('credited', {id, record, left})
end
if tonumber(balance) > tonumber(ARGV[7]) - tonumber(ARGV[3]) then
  return answer('too_much')
end

-- From here it must succeed: only writes.
local given = give('grant', ARGV[2], 'purchase', ARGV[3], ARGV[6], '', ARGV[5])
call('HSET', PAYMENT, 'v', '1', 'amount', ARGV[3], 'grant', given[1], 'record', given[2], 'left', given[3])
call('EXPIRE', PAYMENT, ARGV[8])
even(ARGV[2], ARGV[9])
if ARGV[4] ~= '' then
  local paid = paid_this_month()
  call('HSET', AUTOPAY, 'month', month_now(), 'paid', paid)
  call('HINCRBY', AUTOPAY, 'paid', ARGV[3])
  if facts('attempt') == ARGV[4] and facts('state', 'idle') ~= 'idle' then
    call('HSET', AUTOPAY, 'state', 'idle', 'failures', '0', 'retry', '0', 'why', '')
  end
end
for i = 10, #ARGV, 2 do
  if tier == ARGV[i] then
    call('HSET', ACCOUNT, 'tier', ARGV[i + 1])
  end
end
call('HINCRBY', ACCOUNT, 'changes', 1)
return answer('credited', given)
