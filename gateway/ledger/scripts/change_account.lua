-- change_account: change tier, rate card, status or overrides. In force for the next admission: admit reads them here.
--
-- KEYS  1-6 as in lib, 7 op:<operation>
-- ARGV  2 digest of the content, 3 the most bytes of overrides, 4 number of words in fields, 5.. fields of the account's
--       hash by name and value, then overrides by name and value, '' for one that is taken away
--   overrides  the account's field: name=value, in the order of the names, with SEP between them (core.overrides)
-- Answers  account, {plan, status, sums, grants} as in admin's standing()
--          too_long                   the account would have too many overrides
-- Callers  RedisLedger.change_account
local overrides_at = 5 + tonumber(ARGV[4])
local overrides
if #ARGV >= overrides_at then
  local values, parts = {}, {}
  for name, value in string.gmatch(call('HGET', ACCOUNT, 'overrides') or '', '([^=\31]+)=([^\31]*)') do
    values[name] = value
  end
  for i = overrides_at, #ARGV, 2 do
    values[ARGV[i]] = ARGV[i + 1] ~= '' and ARGV[i + 1] or nil
  end
  for name in pairs(values) do
    parts[#parts + 1] = name
  end
  table.sort(parts)
  for i, name in ipairs(parts) do
    parts[i] = name .. '=' .. values[name]
  end
  overrides = table.concat(parts, SEP)
  if #overrides > tonumber(ARGV[3]) then
    return answer('too_long')
  end
end

-- From here it must succeed: only writes.
if overrides_at > 5 then
  call('HSET', ACCOUNT, unpack(ARGV, 5, overrides_at - 1))
end
if overrides then
  call('HSET', ACCOUNT, 'overrides', overrides)
end
return done('account', standing())
