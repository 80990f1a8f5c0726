-- submit_later: a claimed job is claimed again after a while. It keeps its place.
--
-- KEYS  1-6 as in lib
-- ARGV  2 kind:id, 3 ms from now
-- Answers  later, when to look at the queues again (ms) or ''
-- Callers  RedisLedger.submit_later

-- From here it must succeed: only writes.
call('ZADD', SUBMITTING, 'XX', amount(NOW + ARGV[3]), ARGV[2])
return answer('later', next_look())
