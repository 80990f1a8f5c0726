-- name_call: take a client's name for a call, unless another call has it that is under way or was charged.
--
-- KEYS  1-6 as in lib, 7-9 as in names
-- ARGV  2-3 as in names, 4 digest of what is asked, 5 ms for which it is taken before there is a hold, 6 ms for which it
--       is kept, 7 how many names the account may have
-- Answers  taken
--          running                    the call that has it is under way, or its answer is about to be kept
--          done, hold id, answer      the call that has it was charged; nil where its answer is not kept
--          other                      it was taken for something else
--          full, ms until the oldest is forgotten
--          conflict                   this very call took it for something else
-- Callers  RedisLedger.name_call

-- Between the charge, or the job, and the keeping of its answer a process has one command to send: so long a repeat waits.
local KEEPING_MS = 5000
local function keeps(hold_id, lease_until)
  local entry = string.match(call('GET', BASE .. 'end:' .. hold_id) or '', '^1 settled %x+ (%S+)')
  if not entry then
    return tonumber(lease_until) > NOW
  end
  local found = call('XRANGE', LEDGER, entry, entry)[1] -- it may be gone, once it was exported
  local at = found and string.match(table.concat(found[2], SEP), '\31at\31(%d+)\31')
  return at and NOW - tonumber(at) < KEEPING_MS
end

local version, hold_id, content, lease_until, kept, none =
  unpack(call('HMGET', NAME, 'v', 'hold', 'content', 'until', 'answer', 'none'), 1, 6)
if hold_id then
  assert(version == '1', 'a name of an unknown version')
  if hold_id == ARGV[3] then
    return answer(content == ARGV[4] and 'taken' or 'conflict')
  end
  local state = (kept or none) and 'done' or stands(hold_id, lease_until)
  if state and content ~= ARGV[4] then
    return answer('other')
  elseif state == 'done' and (kept or none or not keeps(hold_id, lease_until)) then
    return answer('done', hold_id, kept)
  elseif state then
    return answer('running')
  end
elseif call('ZCARD', NAMES) >= tonumber(ARGV[7]) then
  return answer('full', amount(call('ZRANGE', NAMES, 0, 0, 'WITHSCORES')[2] - NOW))
end

-- From here it must succeed: only writes.
call('HSET', NAME, 'v', '1', 'hold', ARGV[3], 'content', ARGV[4], 'until', amount(NOW + ARGV[5]))
call('ZADD', NAMES, amount(NOW + ARGV[6]), ARGV[2] .. ':0')
for _, key in ipairs({NAMES, BYTES, NAME}) do
  call('PEXPIRE', key, ARGV[6])
end
return answer('taken')
