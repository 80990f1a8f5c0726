-- queues: the prelude of the verbs that look at the queues of an account.
local SUBMITTING = BASE .. 'submitting'

-- The classes of which jobs have waited.
local function classes()
  local found = call('SMEMBERS', BASE .. 'queues')
  table.sort(found)
  return found
end

-- When somebody should look at the queues again (ms): soon, while something waits; '' if nothing does. Never at a time
-- that is over, so that others come first whose turn it is: this one has just been looked at. Of an account that is not
-- active nothing is claimed; once it is active again, somebody looks at once (Administration.change_account).
local SOON, ONCE_ACTIVE = 250, 60000
local function next_look()
  local look = tonumber(call('ZRANGE', SUBMITTING, 0, 0, 'WITHSCORES')[2])
  for _, class in ipairs(classes()) do
    if call('EXISTS', BASE .. 'queue:' .. class) == 1 then
      look = NOW
      break
    end
  end
  if not look then
    return ''
  end
  local pause = call('HGET', ACCOUNT, 'status') == 'active' and SOON or ONCE_ACTIVE
  return amount(math.max(NOW + pause, look))
end
