-- end_grant: take off what is left of a grant, now, by an entry that says why.
--
-- KEYS  1-6 as in lib, 7 op:<operation>
-- ARGV  2 digest of the content, 3 operation, 4 grant id, 5 what the entry explains (JSON)
-- Answers  ended, {entry id, amount, balance}
--          none                       nothing is left of that grant, or there never was one
-- Callers  RedisLedger.end_grant
local record = call('HGET', GRANTS, ARGV[4])
local expires = record and string.match(record, '^1\31[^\31]*\31%d+\31%d+\31(%d*)\31')
if not expires then -- what is left of a grant stands beside it, under a name of its own
  return answer('none')
end

-- From here it must succeed: only writes.
local left = spend(ARGV[4], (expires == '' and '9999999999999' or string.format('%013.0f', expires)) .. ':' .. ARGV[4])
local balance = add(ACCOUNT, 'balance', '-' .. left)
local entry = enter('grant_expiry', '-' .. left, balance, ARGV[3], ARGV[4] .. ':' .. left, '0', '', ARGV[5])
if call('HEXISTS', ACCOUNT, 'watch') == 1 then
  watch().look(balance, {})
end
return done('ended', {entry, left, balance})
