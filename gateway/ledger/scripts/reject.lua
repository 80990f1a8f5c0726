-- reject: a queued job will not run. Its hold is given back, and its record and its request are kept, to say so.
--
-- KEYS  1-6 as in lib, 7 end:<hold id>, 8 res:<kind>:<id>
-- ARGV  2 hold id, 3 kind:id, 4 token of this call, 5 why (JSON: usage of the record)
-- Answers  rejected                   now or before, or it was not queued
-- Callers  RedisLedger.reject
local state, hold = unpack(call('HMGET', KEYS[8], 'state', 'hold'), 1, 2)
if state ~= 'queued' or hold ~= ARGV[2] then
  return answer('rejected')
end

-- From here it must succeed: only writes.
local record = call('HGET', HOLDS, ARGV[2])
if record then
  close(ARGV[2], record)
  call('SET', KEYS[7], '1 released ' .. ARGV[4], 'EX', REMEMBER)
end
call('HSET', KEYS[8], 'state', 'released', 'usage', ARGV[5])
call('ZREM', BASE .. 'submitting', ARGV[3])
call('EXPIRE', BASE .. 'body:' .. ARGV[3], 3600) -- nothing is held for it any more: no more than its client needs
return answer('rejected')
