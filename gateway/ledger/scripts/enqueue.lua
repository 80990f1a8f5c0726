-- enqueue: put a job that waits for its place into the queue of its class, under an id of ours.
--
-- KEYS  1-6 as in lib, 7 res:<kind>:<id>, 8 body:<kind>:<id>, 9 made:<call> (if its call is to be known)
-- ARGV  2 hold id, 3 deadline (ms from now), 4 kind:id, 5 what is kept of its request, 6 seconds for which its call is known,
--       7.. the record's other fields by name and value
-- Answers  queued                     now or before
--          gone                       its hold is not open, or not queued
--          conflict                   the id is another hold's, or the hold has another id
-- Callers  RedisLedger.enqueue
local owner = call('HGET', KEYS[7], 'hold')
if owner then
  return answer(owner == ARGV[2] and 'queued' or 'conflict')
end
local record = call('HGET', HOLDS, ARGV[2])
local class = record and string.match(record, '^1\31%d+\31[^\31]*\31([^\31]*)%.queued\31')
if not class then
  return answer('gone')
elseif string.match(record, string.rep('\31[^\31]*', 12)) then
  return answer('conflict')
end

-- From here it must succeed: only writes.
local admitted = string.match(record, '^1\31%d+\31[^\31]*\31[^\31]*\31%x+\31(%d+)')
call('HSET', HOLDS, ARGV[2], record .. SEP .. (string.gsub(ARGV[4], ':', SEP, 1)))
call('ZADD', DUE, amount(NOW + ARGV[3]), 'h:' .. ARGV[2])
call('HSET', KEYS[7], 'v', '1', 'state', 'queued', 'hold', ARGV[2], 'created', amount(NOW),
  'deadline', amount(NOW + ARGV[3]), unpack(ARGV, 7))
call('SET', KEYS[8], ARGV[5], 'PX', amount(ARGV[3] + 604800000)) -- a week after its time: to say what became of it
if KEYS[9] then
  call('SET', KEYS[9], ARGV[4], 'EX', ARGV[6])
end
call('ZADD', BASE .. 'queue:' .. class, admitted, ARGV[4])
call('SADD', BASE .. 'queues', class)
return answer('queued')
