-- extend: put off the end of the leases of open holds; never shorten one.
--
-- KEYS  1-6 as in lib
-- ARGV  2 lease (ms from now), 3.. hold ids
-- Answers  extended, list of those that are not open
-- Callers  RedisLedger.extend

-- From here it must succeed: only writes.
local gone = {}
for i = 3, #ARGV do
  if call('HEXISTS', HOLDS, ARGV[i]) == 1 then
    call('ZADD', DUE, 'XX', 'GT', amount(NOW + ARGV[2]), 'h:' .. ARGV[i])
  else
    gone[#gone + 1] = ARGV[i]
  end
end
return answer('extended', gone)
