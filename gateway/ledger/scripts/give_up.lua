-- give_up: follow a job no longer, and end its hold as if its time were over. Its record stays open.
--
-- KEYS  1-6 as in lib, 7 end:<hold id>
-- ARGV  2 kind:id, 3 hold id
-- Answers  given_up, '1' if the job was followed until now, else '0'
-- Callers  RedisLedger.give_up
local record = call('HGET', HOLDS, ARGV[3])

-- From here it must succeed: only writes.
if record then
  call('SET', KEYS[7], '1 expired ' .. close(ARGV[3], record), 'EX', REMEMBER)
end
return answer('given_up', amount(call('ZREM', JOBS, ARGV[2])))
