-- release: give a hold back.
--
-- KEYS  1-6 as in lib, 7 end:<hold id>, 8 res:<kind>:<id> of the job (if any)
-- ARGV  2 hold id, 3 token of this call, so that its repeat over a broken connection answers the same
-- Answers  released, '1' if this call ended the hold, else '0'
-- Callers  RedisLedger.release
local record = call('HGET', HOLDS, ARGV[2])
local released = '1 released ' .. ARGV[3]
local mine = record or call('GET', KEYS[7]) == released

-- From here it must succeed: only writes.
if record then
  close(ARGV[2], record)
  call('SET', KEYS[7], released, 'EX', REMEMBER)
end
if KEYS[8] then
  mark(KEYS[8], ARGV[2], 'released')
end
return answer('released', mine and '1' or '0')
