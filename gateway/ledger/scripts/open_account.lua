-- open_account: open an account with its signup grant.
--
-- KEYS  1-6 as in lib, 7 op:<operation>
-- ARGV  2 digest of the content, 3 operation, 4 tier, 5 rate card, 6 signup amount, 7 what its entry explains (JSON)
-- Answers  account, {plan, status, sums, grants} as in admin's standing()
--          exists                     opened by another operation
-- Callers  RedisLedger.open_account
if call('EXISTS', ACCOUNT) == 1 then
  return answer('exists')
end

-- From here it must succeed: only writes.
call('HSET', ACCOUNT, 'v', '1', 'status', 'active', 'tier', ARGV[4], 'rate_card', ARGV[5], 'balance', '0', 'held', '0',
  'debt', '0', 'grants_made', '0', 'created', amount(NOW))
if ARGV[6] ~= '0' then
  give('grant', ARGV[3], 'signup', ARGV[6], '50', '', ARGV[7])
end
return done('account', standing())
