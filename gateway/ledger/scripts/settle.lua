-- settle: charge a hold's usage, once: end the hold, burn grants, write the entry.
--
-- KEYS  1 as in lib, 2 res:<kind>:<id> of the job (if any)
-- ARGV  2 hold id, 3 digest of the charge, 4 amount, 5 what the entry explains (JSON), 6 usage for the job (JSON),
--       7 product, 8 calls that it counts as ('1' or '0'), 9 id of the key that is charged
-- Answers  settled, entry id, amount, balance, late ('1' or '')
--          repeated, the same         of the first call with this charge: nothing was written
--          conflict, how              the hold was settled with another charge, or released
--          unknown                    no such account
-- Callers  RedisLedger.settle
local ending = BASE .. 'end:' .. ARGV[2]
local record, first, _, how = stands(ARGV[2], ending, ARGV[3])
if first then
  return answer('repeated', unpack(first))
end
if how then
  return answer('conflict', how)
end
local status
status, watched = unpack(call('HMGET', ACCOUNT, 'status', 'watch'), 1, 2)
if not status then
  return answer('unknown')
end

-- From here it must succeed: only writes.
local receipt = settle(ARGV[2], record, ending, ARGV[3], BASE .. 'key:' .. ARGV[9], ARGV[7], ARGV[4], ARGV[5], KEYS[2],
  ARGV[6], ARGV[8])
return answer('settled', unpack(receipt))
