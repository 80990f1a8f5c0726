-- look_later: say when a job that is followed is looked at next, and whether the upstream knows it.
--
-- KEYS  1-6 as in lib, 7 res:<kind>:<id>
-- ARGV  2 kind:id, 3 ms from now, 4 '1' the upstream does not know it, '0' it does, '' nobody asked
-- Answers  later, when (ms) or ''     '' where the job is not followed
-- Callers  RedisLedger.look_later
if not call('ZSCORE', JOBS, ARGV[2]) or call('EXISTS', KEYS[7]) == 0 then
  return answer('later', '')
end

-- From here it must succeed: only writes.
call('ZADD', JOBS, amount(NOW + ARGV[3]), ARGV[2])
if ARGV[4] == '1' then
  call('HSETNX', KEYS[7], 'gone', amount(NOW))
elseif ARGV[4] == '0' then
  call('HDEL', KEYS[7], 'gone')
end
return answer('later', amount(NOW + ARGV[3]))
