-- autopay: what the account's autopay is set to, and how it stands.
--
-- KEYS  1-6 as in lib, 7 autopay
-- ARGV  none but lib's
-- Answers  autopay, its hash
-- Callers  RedisLedger.autopay
return answer('autopay', autopay_now())
