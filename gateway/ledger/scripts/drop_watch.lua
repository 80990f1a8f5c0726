-- drop_watch: watch something no longer.
--
-- KEYS  1-6 as in lib
-- ARGV  2 watch id
-- Answers  dropped                    now or before
-- Callers  RedisLedger.drop_watch

-- From here it must succeed: only writes.
call('HDEL', watch().key, ARGV[2])
watch().arm(watch().all())
return answer('dropped')
