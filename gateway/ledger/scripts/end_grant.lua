-- end_grant: a grant's time is over now: take off what is left of it, by an entry that says why. What open holds rest on
-- is taken off when they end.
--
-- KEYS  1-6 as in lib, 7 op:<operation>
-- ARGV  2 digest of the content, 3 operation, 4 grant id, 5 what the entry explains (JSON)
-- Answers  ended, {entry id, amount, balance}
--          none                       nothing is left of that grant, it is over, or there never was one
-- Callers  RedisLedger.end_grant
local record, left = unpack(call('HMGET', GRANTS, ARGV[4], ARGV[4] .. '.left'), 1, 2)
local before, expires, after = string.match(record or '', '^(1\31[^\31]*\31%d+\31%-?%d+\31)(%d*)(\31.*)$')
-- what is left of a grant stands beside it, under a name of its own
if not left or not expires or (expires ~= '' and tonumber(expires) <= NOW) then
  return answer('none')
end

-- From here it must succeed: only writes.
call('ZREM', BURN, (expires == '' and '9999999999999' or string.format('%013.0f', expires)) .. ':' .. ARGV[4])
call('ZADD', DUE, amount(NOW), 'g:' .. ARGV[4])
call('HSET', GRANTS, ARGV[4], before .. amount(NOW) .. after)
local taken, entry, balance = lapse().over(ARGV[4], NOW, ARGV[3], ARGV[5])
if call('HEXISTS', ACCOUNT, 'watch') == 1 then
  watch().look(balance, {})
end
return done('ended', {entry, amount(taken), balance})
