-- reverse_payment: what a refund or a dispute takes back of a payment, all in all.
--
-- KEYS  1-6 as in lib, 7 pay:<provider>:<payment>, 8 autopay
-- ARGV  2 operation that credits the payment, 3 source, 4 amount, 5 '1' if that is final, 6 what an entry of it explains
--       (JSON), 7 the most an account may hold, 8 seconds for which it is known, 9 priority of what comes back,
--       10 '1' if autopay is off after it whatever the balance is, 11 why
-- Answers  reversed, what is taken back now
--          too_much                   the balance would pass the most
--          unknown                    no such account
-- Callers  RedisLedger.reverse_payment
local balance = call('HGET', ACCOUNT, 'balance')
if not balance then
  return answer('unknown')
end
local by, closed = 'by.' .. ARGV[3], 'closed.' .. ARGV[3]
local said, final, paid, taken = unpack(call('HMGET', PAYMENT, by, closed, 'amount', 'taken'), 1, 4)
if final or (ARGV[5] ~= '1' and tonumber(ARGV[4]) <= tonumber(said or '-1')) then
  return answer('reversed', taken or '0')
end
local back = tonumber(taken or '0') - taken_by_all(paid or '0', ARGV[3], ARGV[4])
if back > 0 and tonumber(balance) > tonumber(ARGV[7]) - back then
  return answer('too_much')
end

-- From here it must succeed: only writes.
call('HSET', PAYMENT, 'v', '1', by, ARGV[4], 'data', ARGV[6])
if ARGV[5] == '1' then
  call('HSET', PAYMENT, closed, '1')
end
call('EXPIRE', PAYMENT, ARGV[8])
call('HINCRBY', ACCOUNT, 'changes', 1)
local now = even(ARGV[2], ARGV[9])
if back < 0 and facts('enabled', '0') == '1'
    and (ARGV[10] == '1' or tonumber(call('HGET', ACCOUNT, 'balance')) < tonumber(facts('threshold'))) then
  call('HSET', AUTOPAY, 'enabled', '0', 'why', ARGV[11])
end
return answer('reversed', now)
