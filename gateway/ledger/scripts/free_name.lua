-- free_name: forget the name of a call that came to nothing. One that was charged, or is under way, keeps it.
--
-- KEYS  1-6 as in lib, 7-9 as in names
-- ARGV  2-3 as in names
-- Answers  freed                      now, before, or it is not this call's
-- Callers  RedisLedger.free_name
local hold_id, kept, none = unpack(call('HMGET', NAME, 'hold', 'answer', 'none'), 1, 3)
if hold_id ~= ARGV[3] or kept or none or stands(hold_id, '0') then
  return answer('freed')
end

-- From here it must succeed: only writes.
call('DEL', NAME)
call('ZREM', NAMES, ARGV[2] .. ':0')
return answer('freed')
