-- autopays: the prelude of the verbs that look at an account's autopay.
--
-- KEYS of those verbs: the last one, 7 or 8, is autopay; ARGV as each says.
--   autopay  HASH    v enabled ('1' or '0') threshold target cap ('' none) provider customer method, as it is set;
--                    state attempt by amount begun (ms) failures retry (ms) month paid why, as it stands (core.autopay)
local AUTOPAY = KEYS[8] or KEYS[7]

-- All of it: name and value in turn.
local function autopay_now()
  return call('HGETALL', AUTOPAY)
end

-- One field; what stands for it where it was never written.
local function facts(field, otherwise)
  return call('HGET', AUTOPAY, field) or otherwise
end

-- What autopay paid in this calendar month.
local function paid_this_month()
  return facts('month', '') == month_now() and facts('paid', '0') or '0'
end
