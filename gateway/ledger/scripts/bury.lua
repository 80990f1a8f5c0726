-- bury: give a delivery up: a dead letter, which ops can revive.
--
-- KEYS  1-6 as in lib
-- ARGV  2 delivery id, 3 why
-- Answers  buried                     now or before, or it does not wait
-- Callers  RedisLedger.bury
local its = call('ZSCORE', outbox().waiting, ARGV[2]) and outbox().read(ARGV[2])
if not its then
  return answer('buried')
end

-- From here it must succeed: only writes.
its.attempts = amount(its.attempts + 1)
outbox().let_die(ARGV[2], its, ARGV[3])
return answer('buried')
