-- account: the account as it stands now.
--
-- KEYS  1-6 as in lib
-- ARGV  none but lib's
-- Answers  account, {plan, status, sums, grants} as in admin's standing()
--          more                       there was more to end than one script may: ask again
--          unknown                    no such account
-- Callers  RedisLedger.account
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
if ended + ended_grants == ENDED_MAX then
  return answer('more')
end
return answer('account', standing())
