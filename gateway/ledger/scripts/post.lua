-- post: post a delivery, unless it was posted before.
--
-- KEYS  1-6 as in lib
-- ARGV  2 delivery id, 3 channel, 4 payload (JSON), 5 ms until it is due, 6 token of this call, so that its repeat over a
--       broken connection answers the same
-- Answers  posted, '1' if it is new, else '0'
-- Callers  RedisLedger.post

-- From here it must succeed: only writes.
local new = outbox().post(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return answer('posted', new and '1' or '0')
