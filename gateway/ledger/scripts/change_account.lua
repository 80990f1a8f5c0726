-- change_account: change tier, rate card or status. In force for the next admission: admit reads them here.
--
-- KEYS  1-6 as in lib, 7 op:<operation>
-- ARGV  2 digest of the content, 3.. fields of the account's hash by name and value
-- Answers  account, {plan, status, sums, grants} as in admin's standing()
--          conflict, unknown          as in admin
-- Callers  RedisLedger.change_account
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
local first = seen()
if first then
  return first
end

-- From here it must succeed: only writes.
if #ARGV > 2 then
  call('HSET', ACCOUNT, unpack(ARGV, 3))
end
return done('account', standing())
