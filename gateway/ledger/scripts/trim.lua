-- trim: forget entries, the oldest first, that all sinks of the export have had and that are old enough. The field
-- `trimmed` of the account says what was the last of them, and the balance after it.
--
-- KEYS  1-6 as in lib, 7 exported
-- ARGV  2 age (ms) from which entries are forgotten, 3 how many at most, 4.. sinks
-- Answers  trimmed, how many
-- Callers  RedisLedger.trim
local ends_ms, ends_number = NOW - ARGV[2], -1 -- all up to this id may go
for i = 4, #ARGV do
  local ms, number = string.match(call('HGET', KEYS[7], ARGV[i]) or '0-0', '^(%d+)-(%d+)$')
  ms, number = tonumber(ms or '0'), tonumber(number or '0')
  if ms < ends_ms or (ms == ends_ms and number < ends_number) then
    ends_ms, ends_number = ms, number
  end
end
local first_kept = amount(ends_ms) .. '-' .. amount(ends_number + 1)
local old = ends_ms > 0 and call('XRANGE', LEDGER, '-', '(' .. first_kept, 'COUNT', ARGV[3]) or {}
local last = old[#old]
if not last then
  return answer('trimmed', '0')
end
local balance
for i = 1, #last[2], 2 do
  balance = last[2][i] == 'balance' and last[2][i + 1] or balance
end

-- From here it must succeed: only writes.
call('HSET', ACCOUNT, 'trimmed', last[1] .. ' ' .. balance)
local ms, number = string.match(last[1], '^(%d+)-(%d+)$')
call('XTRIM', LEDGER, 'MINID', ms .. '-' .. amount(number + 1))
return answer('trimmed', amount(#old))
