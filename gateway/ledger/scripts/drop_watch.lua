-- drop_watch: watch something no longer.
--
-- KEYS  1-6 as in lib
-- ARGV  2 watch id
-- Answers  dropped                    now or before
--          unknown                    no such account
-- Callers  RedisLedger.drop_watch
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end

-- From here it must succeed: only writes.
call('HDEL', watch().key, ARGV[2])
watch().arm(watch().all())
return answer('dropped')
