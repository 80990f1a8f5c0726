-- begin_payment: begin an attempt to bring the balance to its target, if one is due: core.autopay.judge.
--
-- KEYS  1-6 as in lib, 7 autopay
-- ARGV  2 attempt, 3 the least amount, 4 the largest, 5 a cent
-- Answers  begun, time (ms), autopay's hash    by this call, or by its first
--          in_flight, off, suspended, disabled, enough, backing_off, capped: the same
-- Callers  RedisLedger.begin_payment
local function said(verdict)
  return answer(verdict, amount(NOW), autopay_now())
end
local state = facts('state', 'idle')
if state == 'charging' then
  return said(facts('attempt') == ARGV[2] and 'begun' or 'in_flight')
end
if facts('enabled', '0') ~= '1' then
  return said('off')
end
local status, balance = unpack(call('HMGET', ACCOUNT, 'status', 'balance'), 1, 2)
if status ~= 'active' then
  return said('suspended')
end
if state == 'disabled' then
  return said('disabled')
end
balance = tonumber(balance)
if balance >= tonumber(facts('threshold')) then
  return said('enough')
end
if (state == 'failed' and NOW < tonumber(facts('retry'))) or facts('attempt') == ARGV[2] then
  return said('backing_off')
end
local missing = tonumber(facts('target')) - balance
missing = math.min(missing + -missing % tonumber(ARGV[5]), tonumber(ARGV[4]))
local cap = facts('cap', '')
if cap ~= '' then
  missing = math.min(missing, tonumber(cap) - tonumber(paid_this_month()))
  if missing < tonumber(ARGV[3]) then
    return said('capped')
  end
end

-- From here it must succeed: only writes.
call('HSET', AUTOPAY, 'state', 'charging', 'attempt', ARGV[2], 'by', facts('provider'), 'amount', amount(missing),
  'begun', amount(NOW))
return said('begun')
