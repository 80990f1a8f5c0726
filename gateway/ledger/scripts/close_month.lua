-- close_month: close the first month of a commitment that is not closed, and charge what it was short of, once.
--
-- KEYS  1-6 as in lib
-- ARGV  2 operation, 3 month, 4 the commitment by which it is closed, 5 what it becomes or '' (core.commitments),
--       6 amount to charge, 7 what the entry explains (JSON)
-- Answers  closed                     now or before
--          other                      the month is not over, or the commitment is another one: look again
--          unknown                    no such account
-- Callers  RedisLedger.close_month
local status, commitment
status, commitment, watched = unpack(call('HMGET', ACCOUNT, 'status', 'commitment', 'watch'), 1, 3)
if not status then
  return answer('unknown')
end
local closing = string.match(commitment or '', '^(%d+%-%d+):')
if not closing or closing > ARGV[3] then
  return answer('closed')
end
if commitment ~= ARGV[4] or ARGV[3] >= month_now() then
  return answer('other')
end

-- From here it must succeed: only writes.
call('HSET', ACCOUNT, 'commitment', ARGV[5])
call('HINCRBY', ACCOUNT, 'changes', 1)
if ARGV[6] ~= '0' then
  local moved, owed = burn(ARGV[6])
  local balance = add(ACCOUNT, 'balance', minus(ARGV[6]))
  enter('commitment', minus(ARGV[6]), balance, ARGV[2], moved, owed, '', ARGV[7])
  if watched then
    watch().look(balance, {moved = moved})
  end
end
return answer('closed')
