-- commit: change what an account commits to. What it becomes was made of what there was (core.commitments).
--
-- KEYS  1-6 as in lib, 7 op:<operation>
-- ARGV  2 digest of the content, 3 the month from which on it is another, 4 what there was or '', 5 what it becomes or ''
--   commitment  the account's field: first month that is not closed:month=amount,...
-- Answers  committed, {what it is now}    of this call, or of the first
--          changed                    it is not what there was any more: ask again
--          over                       the month is over
-- Callers  RedisLedger.commit
if ARGV[3] < month_now() then
  return answer('over')
end
if (call('HGET', ACCOUNT, 'commitment') or '') ~= ARGV[4] then
  return answer('changed')
end

-- From here it must succeed: only writes.
call('HSET', ACCOUNT, 'commitment', ARGV[5])
return done('committed', {ARGV[5]})
