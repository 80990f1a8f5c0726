-- lib: the first prelude of every script: time, amounts, entries, the ends of holds and grants.
--
-- KEYS of every script, all in the slot of {account}: 1 account, and 2-6 those named below, for who looks at what a
--   script touches; on the path of a call (admit, settle, renew) only the first, because each costs as much as a tenth of
--   a command. Others are given after these, or derived from BASE, in the same slot.
--   account    HASH    status tier rate_card overrides balance held debt created grants_made changes,
--                      open.<class>, rate.<name>
--   holds      HASH    hold id -> record (below)
--   due        ZSET    what ends when (ms): h:<hold id>, g:<grant id>
--   grants     HASH    grant id -> record, <grant id>.left -> what remains
--   burn       ZSET    priority -> <expiry, 13 digits>:<grant id>, so that ZRANGE is the burn order
--   ledger     STREAM  entries
--   key:<key id> and end:<hold id>; and, learned from the store, the account's keys when all are listed, and
--   jobs      ZSET     open jobs that are followed, <kind>:<id> -> when to look at them next (ms); their res:<kind>:<id>
--   queue:<class> ZSET jobs that wait for a place, by when they were admitted (ms); queues SET of such classes;
--   submitting ZSET    those that have their place and are being submitted, or whose hold has ended while they waited: their
--                      client is to be told -> when to claim them again (ms)
-- ARGV of every script: 1 = seconds for which the end of a hold or an operation is remembered.
-- Answers: {tag, 0, ...}; where holds were ended because their time was over, or something waits in the outbox that the
--   index of accounts should know of, {when the first is due (ms) or '', product, holds of it that ended, ...} in place
--   of the 0.
--
-- Money is changed by HINCRBY alone, from strings of digits. Numbers are doubles: amounts are compared only where they
-- are below 2^53 (BALANCE_MAX sees to it), and written as text by amount() only there.
local ACCOUNT = KEYS[1]
local BASE = string.sub(ACCOUNT, 1, -8)
local HOLDS, DUE, GRANTS, BURN, LEDGER = BASE .. 'holds', BASE .. 'due', BASE .. 'grants', BASE .. 'burn', BASE .. 'ledger'
local JOBS = BASE .. 'jobs'
local REMEMBER = ARGV[1]
local SEP = '\31'
local ENDED_MAX = 100 -- of one script's time

local call = redis.call
local time = call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000)

local ended, ended_held, ended_grants = 0, 0, 0
local ended_of -- product -> how many of its holds, once there are some
local lapsed -- of lapse.lua: lets go of what is kept of grants for a hold that ends, once there is something
local watched -- the account's field `watch` (see watch.lua), once a script has read it
local waits -- when the first delivery is due that the index should know of (ms, as text), if any

local function answer(tag, ...)
  if not (waits or ended_of) then
    return {tag, 0, ...}
  end
  local told = {waits or ''}
  for product, count in pairs(ended_of or {}) do
    told[#told + 1], told[#told + 2] = product, count
  end
  return {tag, told, ...}
end

-- A whole number below 2^53 as text. `%.0f` would print the same at twice the time, a dozen times for each call.
local format = string.format
local function amount(number)
  return format('%d', number)
end

local function minus(text)
  return text == '0' and '0' or '-' .. text
end

-- HINCRBY by a string of digits; the new value as the string that Redis made.
local function add(key, field, text)
  local sum = call('HINCRBY', key, field, text)
  if sum > -9007199254740992 and sum < 9007199254740992 then
    return amount(sum)
  end
  return call('HGET', key, field)
end

-- One immutable line of the ledger. `moved` names what grants gave or got ("id:amount,..."), `debt` what it did to
-- debt, `late` is '1' or ''. The id of the entry.
local function enter(kind, change, balance, operation, moved, debt, late, data)
  return call('XADD', LEDGER, '*', 'v', '1', 'kind', kind, 'amount', change, 'balance', balance,
    'operation', operation, 'at', amount(NOW), 'grants', moved, 'debt', debt, 'late', late, 'data', data)
end

-- A hold's record: 1 SEP amount SEP key id SEP class SEP digest SEP created SEP balance SEP held SEP rates SEP product
-- SEP price version [SEP resource kind SEP resource id]. From balance to rates: the first answer.
-- What it held; what grants that are over pay of its charge ("id:amount,..."), and what is left of the charge.
local function close(id, record, charge)
  local held, key_id, class = string.match(record, '^1\31(%d+)\31([^\31]*)\31([^\31]*)\31')
  assert(held, 'a hold of an unknown version')
  call('HDEL', HOLDS, id)
  call('ZREM', DUE, 'h:' .. id)
  if held ~= '0' then
    call('HINCRBY', ACCOUNT, 'held', '-' .. held)
    call('HINCRBY', BASE .. 'key:' .. key_id, 'held', '-' .. held)
  end
  if class ~= '' then
    call('HINCRBY', ACCOUNT, 'open.' .. class, -1)
    local queue = string.match(class, '^(.*)%.queued$')
    if queue then
      local kind, job = string.match(record, '\31([^\31]*)\31([^\31]*)$')
      if call('ZREM', BASE .. 'queue:' .. queue, kind .. ':' .. job) == 1 then
        call('ZADD', BASE .. 'submitting', amount(NOW), kind .. ':' .. job)
      end
    end
  end
  if lapsed then
    local created = string.match(record, '^1' .. string.rep('\31[^\31]*', 4) .. '\31(%d+)')
    return held, lapsed(tonumber(held), tonumber(created), charge or '0')
  end
  return held, '', charge
end

-- Move a job's record on with its hold, and follow it no longer; one that is settled or released stays.
local function mark(key, hold_id, state, usage)
  local state_now, hold = unpack(call('HMGET', key, 'state', 'hold'), 1, 2)
  if (state_now == 'open' or state_now == 'queued') and hold == hold_id then
    local member = string.sub(key, #BASE + 5)
    call('HSET', key, 'state', state, unpack(usage and {'usage', usage} or {}))
    call('ZREM', JOBS, member)
    if state_now == 'queued' then
      call('ZREM', BASE .. 'submitting', member)
      call('DEL', BASE .. 'body:' .. member)
    end
  end
end

-- The day (UTC) of the store's clock: "2026-11-27". Days to a civil date, counted in years from March.
local today
local function day_now()
  if today then
    return today
  end
  local day = math.floor(NOW / 86400000) + 719468
  local era = math.floor(day / 146097)
  local day_of_era = day - era * 146097
  local year = math.floor((day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524)
    - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * day_of_year + 2) / 153)
  local day_of_month = day_of_year - math.floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  today = string.format('%04d-%02d-%02d', year + era * 400 + (month <= 2 and 1 or 0), month, day_of_month)
  return today
end

-- Its calendar month: "2026-11".
local function month_now()
  return string.sub(day_now(), 1, 7)
end

-- Take a grant out of the account; what remained of it.
local function spend(id, member)
  local left = call('HGET', GRANTS, id .. '.left')
  call('ZREM', BURN, member)
  call('ZREM', DUE, 'g:' .. id)
  call('HDEL', GRANTS, id, id .. '.left')
  return left
end
