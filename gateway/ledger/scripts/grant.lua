-- grant: give credit. Debt is paid first.
--
-- KEYS  1-6 as in lib, 7 op:<operation>
-- ARGV  2 digest of the content, 3 operation, 4 kind, 5 amount, 6 priority, 7 expiry (ms) or '',
--       8 what the entry explains (JSON), 9 the most an account may hold
-- Answers  granted, {id, record, what remains}
--          past                       the expiry is over already
--          too_much                   the balance would pass the most
-- Callers  RedisLedger.grant
if ARGV[7] ~= '' and tonumber(ARGV[7]) <= NOW then
  return answer('past')
end
if tonumber(call('HGET', ACCOUNT, 'balance')) > tonumber(ARGV[9]) - tonumber(ARGV[5]) then
  return answer('too_much')
end

-- From here it must succeed: only writes.
local given = give('grant', ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
return done('granted', given)
