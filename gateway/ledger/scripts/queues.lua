-- queues: the prelude of the verbs that look at the queues of an account.
local SUBMITTING = BASE .. 'submitting'

-- The classes of which jobs have waited.
local function classes()
  local found = call('SMEMBERS', BASE .. 'queues')
  table.sort(found)
  return found
end

-- When somebody should look at the queues again (ms): soon, while something waits; '' if nothing does.
local function next_look()
  for _, class in ipairs(classes()) do
    if call('EXISTS', BASE .. 'queue:' .. class) == 1 then
      return amount(NOW + 250)
    end
  end
  return call('ZRANGE', SUBMITTING, 0, 0, 'WITHSCORES')[2] or ''
end
