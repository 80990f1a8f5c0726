-- sweep: end what is over (the prelude did) and say what that was; forget old dead letters.
--
-- KEYS  1-6 as in lib
-- ARGV  2 token of this call, so that its repeat over a broken connection answers the same
-- Answers  swept, holds, nano-dollars they held, grants, when a job of the account is to be looked at next (ms) or '',
--                                     when its queues are (ms) or '', the month, tier, rate card, overrides, the last
--                                     month that had a grant or '', the commitment or ''
-- Callers  RedisLedger.sweep
waits = call('ZRANGE', BASE .. 'outbox', 0, 0, 'WITHSCORES')[2]
local look_at_job = call('ZRANGE', JOBS, 0, 0, 'WITHSCORES')[2] or ''
local swept, tier, rate_card, overrides, granted, commitment = unpack(
  call('HMGET', ACCOUNT, 'swept', 'tier', 'rate_card', 'overrides', 'granted', 'commitment'), 1, 6)
local token, holds, held, grants = string.match(swept or '', '^(%S+) (%d+) (%d+) (%d+)$')

local function told()
  return answer('swept', holds, held, grants, look_at_job, next_look(), month_now(), tier, rate_card, overrides or '',
    granted or '', commitment or '')
end

if token == ARGV[2] then
  return told()
end

-- From here it must succeed: only writes.
if call('EXISTS', BASE .. 'dead') == 1 then
  outbox().forget_dead()
end
if call('HEXISTS', ACCOUNT, 'watch') == 1 then
  watch().look(call('HGET', ACCOUNT, 'balance'), {swept = true})
end
holds, held, grants = amount(ended), amount(ended_held), amount(ended_grants)
if ended + ended_grants > 0 then
  call('HSET', ACCOUNT, 'swept', table.concat({ARGV[2], holds, held, grants}, ' '))
end
return told()
