-- correct: add what a later receipt changes of a charge, as an entry of its own.
--
-- KEYS  1-6 as in lib, 7 op:<operation>, 8 key:<key id> whose month it changes
-- ARGV  2 digest of the content, 3 operation, 4 amount, 5 'back' (credit comes back) or 'more' (more is charged),
--       6 priority of the grant that comes back, 7 what the entry explains (JSON), 8 the most an account may hold,
--       [9 the call that it corrects, 10 and 11 what is left of that as left_of takes it]
-- Answers  corrected, {entry id, balance}
--          no_call                    that call was charged nothing
--          left, {what is left}       that much is not left of what the call was charged
--          too_much                   the balance would pass the most
-- Callers  RedisLedger.correct
local back = ARGV[5] == 'back'
if ARGV[9] then
  local left = left_of(ARGV[9], ARGV[10], ARGV[11])
  if not left then
    return answer('no_call')
  elseif back and tonumber(ARGV[4]) > math.max(0, left) then
    return answer('left', {amount(left)})
  end
end
if back and tonumber(call('HGET', ACCOUNT, 'balance')) > tonumber(ARGV[8]) - tonumber(ARGV[4]) then
  return answer('too_much')
end

-- From here it must succeed: only writes.
if KEYS[8] ~= BASE .. 'key:' then
  count_usage('', KEYS[8], back and minus(ARGV[4]) or ARGV[4], '0')
end
if back then
  count_back(KEYS[8], ARGV[4])
  local _, entry, balance = give('correction', ARGV[3], 'correction', ARGV[4], ARGV[6], '', ARGV[7], true)
  return done('corrected', {entry, balance})
end
count_spent(KEYS[8], ARGV[4])
return done('corrected', {charge_more(ARGV[3], ARGV[4], KEYS[8], ARGV[7])})
