-- use_once: use a name that may be used by one only.
--
-- KEYS  1-6 as in lib, 7 once:<name>
-- ARGV  2 who uses it, 3 seconds for which that is remembered
-- Answers  used, '1' if it is this one's, '0' if another one used it before
-- Callers  RedisLedger.use_once
local first = call('GET', KEYS[7])
if first then
  return answer('used', first == ARGV[2] and '1' or '0')
end

-- From here it must succeed: only writes.
call('SET', KEYS[7], ARGV[2], 'EX', ARGV[3])
return answer('used', '1')
