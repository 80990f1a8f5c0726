-- take_volume: add what a hold's charge uses of SKUs to the month, once, and say what the month had before.
--
-- KEYS  1-6 as in lib, 7 end:<hold id>, 8 taken:<hold id>
-- ARGV  2 digest of the volumes, 3.. SKU and millionths of a unit in turn
--   taken:<hold id>  STRING with TTL  1 digest, what the month had before of each SKU
--   volume:<month>   HASH with TTL    SKU -> millionths of a unit
-- Answers  taken, what the month had before of each, with blanks between    of this call, or of the first
--          conflict                   it was taken with other volumes; or the hold was released, or settled without
-- Callers  RedisLedger.take_volume
local past = call('GET', KEYS[8])
if past then
  local digest, first = string.match(past, '^1 (%x+) (.*)$')
  if digest ~= ARGV[2] then
    return answer('conflict')
  end
  return answer('taken', first)
end
local how = string.match(call('GET', KEYS[7]) or '', '^1 (%l+)')
if how == 'settled' or how == 'released' then
  return answer('conflict')
end

-- From here it must succeed: only writes.
local VOLUME_SECONDS = 400 * 86400 -- as usage is kept
local volume, before = BASE .. 'volume:' .. month_now(), {}
for i = 3, #ARGV, 2 do
  local sku, millionths = ARGV[i], ARGV[i + 1]
  before[#before + 1] = call('HGET', volume, sku) or '0'
  call('HINCRBY', volume, sku, millionths)
end
call('EXPIRE', volume, VOLUME_SECONDS)
before = table.concat(before, ' ')
call('SET', KEYS[8], '1 ' .. ARGV[2] .. ' ' .. before, 'EX', REMEMBER)
return answer('taken', before)
