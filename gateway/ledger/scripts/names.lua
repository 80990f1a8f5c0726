-- names: the prelude of the verbs of named calls: how far the call that has a name has come. Forgets what is too old.
--
-- KEYS of those verbs: KEYS 7 names, 8 names.bytes, 9 name:<name>
--   names         ZSET    <name>:<bytes of its answer> -> until when it is kept (ms)
--   names.bytes   STRING  the sum of those bytes
--   name:<name>   HASH    v hold content until (ms, for as long as there is no hold) answer (once it is kept) none (1:
--                         it is known that none is)
-- ARGV of those verbs: ARGV 2 name, 3 hold id
local NAMES, BYTES, NAME = KEYS[7], KEYS[8], KEYS[9]

-- How the call that took the name stands: 'done' once it is charged, or its job runs; nil where it came to nothing.
local function stands(hold_id, lease_until)
  local record = call('HGET', HOLDS, hold_id)
  if record then
    return string.match(record, string.rep('\31[^\31]*', 12)) and 'done' or 'running'
  end
  local how = string.match(call('GET', BASE .. 'end:' .. hold_id) or '', '^1 (%l+)')
  if how == 'settled' then
    return 'done'
  elseif not how and tonumber(lease_until) > NOW then
    return 'running'
  end
end

for _, old in ipairs(call('ZRANGE', NAMES, '-inf', amount(NOW), 'BYSCORE', 'LIMIT', 0, ENDED_MAX)) do
  call('ZREM', NAMES, old)
  call('DECRBY', BYTES, string.match(old, ':(%d+)$'))
end
