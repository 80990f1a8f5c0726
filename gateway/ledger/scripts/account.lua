-- account: the account as it stands now.
--
-- KEYS  1-6 as in lib
-- ARGV  none but lib's
-- Answers  account, {plan, status, sums, grants} as in admin's standing()
-- Callers  RedisLedger.account
return answer('account', standing())
