-- renew: charge the slice of a session that was used and hold the next one, in one step. The charge is made in any case.
--
-- KEYS  1 as in lib, 2 res:<kind>:<id> of the session (if any)
-- ARGV  2-12 as in guards (of the next hold; its key is also the one charged), 13 used hold id, 14 digest of the charge,
--       15 amount, 16 what the entry explains (JSON), 17 usage for the session (JSON), 18 product, 19 calls that it
--       counts as, 20 id of the key that is charged
-- Answers  renewed, entry id, amount, balance, late, '1' if that charge was made before or '', hold, balance, held, guard
--          that refused the next hold or '-'    of this call, or of the first renewal of this hold
--          plan, tier, rate card, overrides    the account's plan is another one: nothing was written
--          conflict, how              the used hold was charged or renewed otherwise, or the next one is in use
--          unknown                    no such account
-- Callers  RedisLedger.renew
local ending = BASE .. 'end:' .. ARGV[13]
local record, first, after, how = stands(ARGV[13], ending, ARGV[14])
if how then
  return answer('conflict', how)
end
if first and after ~= '' then
  local digest, hold, balance, held, refusal, id = string.match(after, '^ (%x+) (%d+) (%-?%d+) (%d+) (%S+) (.*)$')
  if digest ~= ARGV[3] or id ~= ARGV[2] then
    return answer('conflict', 'renewed')
  end
  local entry, charged, balance_then, late = unpack(first)
  return answer('renewed', entry, charged, balance_then, late, '1', hold, balance, held, refusal)
end
local status, tier, rate_card, overrides
status, tier, rate_card, overrides, watched = unpack(
  call('HMGET', ACCOUNT, 'status', 'tier', 'rate_card', 'overrides', 'watch'), 1, 5)
if not status then
  return answer('unknown')
end
if call('HEXISTS', HOLDS, ARGV[2]) == 1 or call('EXISTS', ENDING) == 1 then
  return answer('conflict', 'taken')
end
local plan = tier .. SEP .. rate_card .. SEP .. (overrides or '')
if call('EXISTS', KEY) == 1 and plan ~= ARGV[6] then
  return answer('plan', tier, rate_card, overrides or '')
end

-- From here it must succeed: only writes.
local repeated = first and '1' or ''
first = first
  or settle(ARGV[13], record, ending, ARGV[14], KEY, ARGV[18], ARGV[15], ARGV[16], KEYS[2], ARGV[17],
    ARGV[19])
local balance, held, open = unpack(call('HMGET', ACCOUNT, 'balance', 'held', 'open.' .. CLASS), 1, 3)
local refusal, hold = judge(status, plan, balance, held)
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
call('SET', ending, table.concat({'1 settled', ARGV[14], entry, charged, balance_then, late,
  ARGV[3], hold, balance, held, refusal or '-', ARGV[2]}, ' '), 'EX', REMEMBER)
return answer('renewed', entry, charged, balance_then, late, repeated, hold, balance, held, refusal or '-')
