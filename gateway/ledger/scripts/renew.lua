-- renew: charge the slice of a session that was used and hold the next one, in one step. The charge is made in any case.
--
-- KEYS  1-6 as in lib, 7-8 as in guards (of the next hold; its key is also the one charged), 9 end:<used hold id>,
--       10 res:<kind>:<id> of the session (if any)
-- ARGV  2-18 as in guards (of the next hold), 19 used hold id, 20 digest of the charge, 21 amount,
--       22 what the entry explains (JSON), 23 usage for the session (JSON), 24 product, 25 calls that it counts as
-- Answers  renewed, entry id, amount, balance, late, hold, balance, held, guard that refused the next hold or '-'
--                                     of this call, or of the first renewal of this hold
--          plan, tier, rate card, overrides    the account's plan is another one: nothing was written
--          conflict, how              the used hold was charged or renewed otherwise, or the next one is in use
--          unknown                    no such account
-- Callers  RedisLedger.renew
local record, first, after, how = stands(ARGV[19], KEYS[9], ARGV[20])
if how then
  return answer('conflict', how)
end
if first and after ~= '' then
  local digest, hold, balance, held, refusal, id = string.match(after, '^ (%x+) (%d+) (%-?%d+) (%d+) (%S+) (.*)$')
  if digest ~= ARGV[3] or id ~= ARGV[2] then
    return answer('conflict', 'renewed')
  end
  local entry, charged, balance_then, late = unpack(first)
  return answer('renewed', entry, charged, balance_then, late, hold, balance, held, refusal)
end
local status, tier, rate_card, overrides
status, tier, rate_card, overrides, watched = unpack(
  call('HMGET', ACCOUNT, 'status', 'tier', 'rate_card', 'overrides', 'watch'), 1, 5)
if not status then
  return answer('unknown')
end
if call('HEXISTS', HOLDS, ARGV[2]) == 1 or call('EXISTS', KEYS[7]) == 1 then
  return answer('conflict', 'taken')
end
if call('EXISTS', KEYS[8]) == 1
  and (tier ~= ARGV[6] or rate_card ~= ARGV[7] or (overrides or '') ~= ARGV[18]) then
  return answer('plan', tier, rate_card, overrides or '')
end

-- From here it must succeed: only writes.
first = first
  or settle(ARGV[19], record, KEYS[9], ARGV[20], KEYS[8], ARGV[24], ARGV[21], ARGV[22], KEYS[10], ARGV[23],
    ARGV[25])
local balance, held, open = unpack(call('HMGET', ACCOUNT, 'balance', 'held', 'open.' .. CLASS), 1, 3)
local refusal, hold = judge(status, tier, rate_card, overrides, balance, held)
-- The used hold's place passes on to the next one.
local place = record and string.match(record, '^1\31%d+\31[^\31]*\31([^\31]*)\31')
if not refusal and place ~= CLASS and crowded(open) then
  refusal = 'too_many_concurrent'
end
if refusal then
  hold = '0'
else
  held = take(hold, balance, held, '', CLASS)
end
local entry, charged, balance_then, late = unpack(first)
call('SET', KEYS[9], table.concat({'1 settled', ARGV[20], entry, charged, balance_then, late,
  ARGV[3], hold, balance, held, refusal or '-', ARGV[2]}, ' '), 'EX', REMEMBER)
return answer('renewed', entry, charged, balance_then, late, hold, balance, held, refusal or '-')
