-- over: the prelude of every script that ends what is over, before anything else is looked at: holds and grants whose
-- time has come, a hundred at once. Of what a hand has taken away the time is forgotten: else nothing could be done any
-- more for the account, not even its repair.
local its_time = call('ZCOUNT', DUE, '-inf', NOW) > 0 -- mostly not: to count them costs less than to list them
-- Besides a hundred, as many as there are grants: one of which something is kept stays.
for _, over in ipairs(its_time and call('ZRANGE', DUE, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, ENDED_MAX + call('ZCARD', BURN))
    or {}) do
  if ended + ended_grants == ENDED_MAX then
    break
  end
  local id, is_hold = string.sub(over, 3), string.sub(over, 1, 2) == 'h:'
  local record = is_hold and call('HGET', HOLDS, id) or not is_hold and call('HGET', GRANTS, id .. '.left')
  if not record then
    call('ZREM', DUE, over)
  elseif is_hold then
    local held = close(id, record)
    local product = string.match(record, '^1' .. string.rep('\31[^\31]*', 8) .. '\31([^\31]*)')
    ended_of = ended_of or {}
    ended_of[product] = (ended_of[product] or 0) + 1
    call('SET', BASE .. 'end:' .. id, '1 expired ' .. held, 'EX', REMEMBER)
    ended, ended_held = ended + 1, ended_held + held
  elseif lapse().over(id, tonumber(call('ZSCORE', DUE, over))) > 0 then
    ended_grants = ended_grants + 1
  end
end
if ended_grants > 0 and call('HEXISTS', ACCOUNT, 'watch') == 1 then
  watch().look(call('HGET', ACCOUNT, 'balance'), {})
end
