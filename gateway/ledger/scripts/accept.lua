-- accept: record what an upstream made for the account; an open job's hold gets the deadline as its expiry, and the job
-- is followed.
--
-- KEYS  1-6 as in lib, 7 end:<hold id>, 8 res:<kind>:<id>, 9 made:<hold id>, if it is found by that as well
-- ARGV  2 hold id or '', 3 deadline (ms from now), 4 seconds to keep the record (0: until forgotten), 5 state,
--       6 kind, 7 id, 8 first look (ms from now), 9 seconds to find it by its hold, 10.. the record's other fields by name and
--       value
-- Answers  accepted, next look (ms) or ''    now or before; '' where it is not followed
--          conflict                   it belongs to another hold
-- Callers  RedisLedger.accept
local member, look = ARGV[6] .. ':' .. ARGV[7], ''
local owner = call('HGET', KEYS[8], 'hold')
if owner then
  return owner == ARGV[2] and answer('accepted', call('ZSCORE', JOBS, member) or '') or answer('conflict')
end
local record = ARGV[2] ~= '' and call('HGET', HOLDS, ARGV[2])
local past = ARGV[2] ~= '' and not record and call('GET', KEYS[7])
local state = past and string.match(past, '^1 (%l+)') or ''
if state ~= 'settled' and state ~= 'released' then
  state = ARGV[5]
end

-- From here it must succeed: only writes.
if record then
  local bare = string.match(record, '^1' .. string.rep('\31[^\31]*', 10))
  call('HSET', HOLDS, ARGV[2], bare .. SEP .. ARGV[6] .. SEP .. ARGV[7])
  call('ZADD', DUE, amount(NOW + ARGV[3]), 'h:' .. ARGV[2])
end
call('HSET', KEYS[8], 'v', '1', 'state', state, 'hold', ARGV[2], 'created', amount(NOW), unpack(ARGV, 10))
if ARGV[2] ~= '' then
  call('HSET', KEYS[8], 'deadline', amount(NOW + ARGV[3]))
  if state == 'open' then
    look = amount(NOW + ARGV[8])
    call('ZADD', JOBS, look, member)
  end
end
if KEYS[9] then
  call('SET', KEYS[9], member, 'EX', ARGV[9])
end
if ARGV[4] ~= '0' then
  call('EXPIRE', KEYS[8], ARGV[4])
end
return answer('accepted', look)
