-- watches: what is watched of the account.
--
-- KEYS  1-6 as in lib
-- ARGV  none but lib's
-- Answers  watches, {id, record} of each, in the order of their ids
--          unknown                    no such account
-- Callers  RedisLedger.watches
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
local listed = {}
for i, its in ipairs(watch().all()) do
  listed[i] = {its.id, call('HGET', watch().key, its.id)}
end
return answer('watches', listed)
