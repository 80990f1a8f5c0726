-- keep_answer: keep the answer of a named call, for its repeats.
--
-- KEYS  1-6 as in lib, 7-9 as in names
-- ARGV  2-3 as in names, 4 answer (empty: none will be kept), 5 bytes that the answers of the account may have together
-- Answers  kept, '1' if it is kept, else '0': the name is another call's, there is no room, or no answer
-- Callers  RedisLedger.keep_answer
local hold_id, kept = unpack(call('HMGET', NAME, 'hold', 'answer'), 1, 2)
if hold_id ~= ARGV[3] or kept then
  return answer('kept', hold_id == ARGV[3] and '1' or '0')
end
local bytes, until_ms = #ARGV[4], call('ZSCORE', NAMES, ARGV[2] .. ':0')
local room = until_ms and tonumber(call('GET', BYTES) or '0') + bytes <= tonumber(ARGV[5])

-- From here it must succeed: only writes.
if bytes == 0 or not room then
  call('HSET', NAME, 'none', '1')
  return answer('kept', '0')
end
call('HSET', NAME, 'answer', ARGV[4])
call('ZADD', NAMES, until_ms, ARGV[2] .. ':' .. amount(bytes))
call('ZREM', NAMES, ARGV[2] .. ':0') -- after it: an empty set would forget when it ends
call('INCRBY', BYTES, amount(bytes))
call('PEXPIRE', BYTES, call('PTTL', NAMES))
return answer('kept', '1')
