-- grant_monthly: give what a plan gives each calendar month, once a month.
--
-- KEYS  1-6 as in lib
-- ARGV  2 tier, 3 rate card, 4 overrides, 5 month, 6 operation, 7 amount, 8 priority, 9 expiry (ms),
--       10 what the entry explains (JSON), 11 the most an account may hold
--   granted  the account's field: the last month that had a grant
-- Answers  given                      now or before
--          other                      it is another month, or the account's plan is another one
--          too_much                   the balance would pass the most
--          unknown                    no such account
-- Callers  RedisLedger.grant_monthly
local tier, rate_card, overrides, balance, granted = unpack(
  call('HMGET', ACCOUNT, 'tier', 'rate_card', 'overrides', 'balance', 'granted'), 1, 5)
if not tier then
  return answer('unknown')
end
if granted and granted >= ARGV[5] then
  return answer('given')
end
if ARGV[5] ~= month_now() or tonumber(ARGV[9]) <= NOW
  or tier ~= ARGV[2] or rate_card ~= ARGV[3] or (overrides or '') ~= ARGV[4] then
  return answer('other')
end
if tonumber(balance) > tonumber(ARGV[11]) - tonumber(ARGV[7]) then
  return answer('too_much')
end

-- From here it must succeed: only writes.
call('HSET', ACCOUNT, 'granted', ARGV[5])
call('HINCRBY', ACCOUNT, 'changes', 1)
give('grant', ARGV[6], 'monthly', ARGV[7], ARGV[8], ARGV[9], ARGV[10])
return answer('given')
