-- autopay: what the account's autopay is set to, and how it stands.
--
-- KEYS  1-6 as in lib, 7 autopay
-- ARGV  none but lib's
-- Answers  autopay, its hash
--          unknown                    no such account
-- Callers  RedisLedger.autopay
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
return answer('autopay', autopay_now())
