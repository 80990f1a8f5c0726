-- refund: give a charge back, or a part of it, as an entry of its own: never more than the charge was.
--
-- KEYS  1-6 as in lib, 7 op:<operation>, 8 key:<key id> of the charge, 9 refunds
--   refunds  HASH  entry id of a charge -> what was given back of it
-- ARGV  2 digest of the content, 3 operation, 4 entry id of the charge, 5 its amount, 6 how much comes back ('': what is
--       left of it), 7 priority of the grant, 8 what the entry explains (JSON), 9 the most an account may hold,
--       10 the call that was charged, 11 and 12 what is left of its charges as left_of takes it
-- Answers  refunded, {entry id, balance, amount}
--          too_much                   the balance would pass the most
--          left, {what is left}       that much is not left of the charge, or of all that its call was charged
-- Callers  RedisLedger.refund
local left = tonumber(ARGV[5]) - tonumber(call('HGET', KEYS[9], ARGV[4]) or '0')
left = math.max(0, math.min(left, left_of(ARGV[10], ARGV[11], ARGV[12]) or 0))
local given = ARGV[6] == '' and amount(left) or ARGV[6]
if left <= 0 or tonumber(given) > left then
  return answer('left', {amount(left)})
end
if tonumber(call('HGET', ACCOUNT, 'balance')) > tonumber(ARGV[9]) - tonumber(given) then
  return answer('too_much')
end

-- From here it must succeed: only writes.
call('HINCRBY', KEYS[9], ARGV[4], given)
count_usage('', KEYS[8], minus(given), '0')
count_back(KEYS[8], given)
local _, entry, balance = give('correction', ARGV[3], 'correction', given, ARGV[7], '', ARGV[8], true)
return done('refunded', {entry, balance, given})
