-- watches: what is watched of the account.
--
-- KEYS  1-6 as in lib
-- ARGV  none but lib's
-- Answers  watches, {id, record} of each, in the order of their ids
-- Callers  RedisLedger.watches
local listed = {}
for i, its in ipairs(watch().all()) do
  listed[i] = {its.id, call('HGET', watch().key, its.id)}
end
return answer('watches', listed)
