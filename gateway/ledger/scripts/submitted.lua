-- submitted: a claimed job is at the upstream, and is followed from now on.
--
-- KEYS  1-6 as in lib, 7 res:<kind>:<id>, 8 ours
-- ARGV  2 hold id, 3 kind:id, 4 kind, 5 the upstream's id, 6 first look (ms from now),
--       7 the endpoint of its service, or ''
-- Answers  submitted, next look (ms) or ''    '' where it is not followed
-- Callers  RedisLedger.submitted
local state, hold = unpack(call('HMGET', KEYS[7], 'state', 'hold'), 1, 2)
if state ~= 'queued' or hold ~= ARGV[2] then
  return answer('submitted', call('ZSCORE', JOBS, ARGV[3]) or '')
end

-- From here it must succeed: only writes.
local look = amount(NOW + ARGV[6])
call('HSET', KEYS[7], 'state', 'open', 'upstream', ARGV[5], unpack(ARGV[7] ~= '' and {'endpoint', ARGV[7]} or {}))
call('HSET', KEYS[8], ARGV[4] .. ':' .. ARGV[5], string.sub(ARGV[3], #ARGV[4] + 2))
call('ZREM', BASE .. 'submitting', ARGV[3])
call('DEL', BASE .. 'body:' .. ARGV[3])
call('ZADD', JOBS, look, ARGV[3])
return answer('submitted', look)
