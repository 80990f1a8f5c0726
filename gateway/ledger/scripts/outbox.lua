-- outbox: at hand in every script, as outbox(): what is to be told to somebody outside, posted in the step that changes
-- what it tells of.
--
-- Keys of the account's slot, derived from BASE:
--   outbox     ZSET    delivery id -> when it is due (ms)
--   dead       ZSET    delivery id -> when it was given up (ms)
--   posts      HASH    id of each of those -> 1 SEP channel SEP created SEP attempts SEP token of who wrote last SEP '1'
--                      once claimed SEP why it was not delivered SEP payload (JSON)
--   sent:<id>  STRING  it was delivered; remembered like an operation
local OUTBOX, DEAD, POSTS = BASE .. 'outbox', BASE .. 'dead', BASE .. 'posts'
local WAITING_MAX, OWN_MAX = 10000, 1000 -- these and the next two as in rules
local DEAD_MAX = 1000
local DEAD_MS = 30 * 86400 * 1000

-- The answer tells of the delivery that is due first, for the index of accounts.
local function tell_waits()
  waits = call('ZRANGE', OUTBOX, 0, 0, 'WITHSCORES')[2] or waits
end

-- A delivery that waits or was given up; nil if there is none.
local function read_post(id)
  local record = call('HGET', POSTS, id)
  if not record then
    return nil
  end
  local post = {}
  post.channel, post.created, post.attempts, post.by, post.claimed, post.why, post.payload =
    string.match(record, '^1\31([^\31]*)\31(%d+)\31(%d+)\31([^\31]*)\31(1?)\31([^\31]*)\31(.*)$')
  assert(post.channel, 'a delivery of an unknown version')
  return post
end

local function write_post(id, post)
  call('HSET', POSTS, id, table.concat(
    {'1', post.channel, post.created, post.attempts, post.by, post.claimed, post.why, post.payload}, SEP))
end

-- Forget the deliveries that were given up too long ago, or that are too many.
local function forget_dead()
  local old = call('ZRANGE', DEAD, '-inf', amount(NOW - DEAD_MS), 'BYSCORE')
  local many = call('ZCARD', DEAD) - DEAD_MAX
  if many > #old then
    old = call('ZRANGE', DEAD, 0, many - 1)
  end
  for _, id in ipairs(old) do
    call('ZREM', DEAD, id)
    call('HDEL', POSTS, id)
  end
end

-- Give a delivery up.
local function let_die(id, post, why)
  post.why = why
  write_post(id, post)
  call('ZREM', OUTBOX, id)
  call('ZADD', DEAD, amount(NOW), id)
  forget_dead()
end

-- Post a delivery, due in so many ms, unless it was posted before; one that waits for its first attempt is due at the
-- earlier time, and says what was posted for that. Whether it is new. Too many that wait: it is given up at once, for
-- ops to see.
local function post(id, channel, payload, delay, by)
  local past, due = read_post(id), amount(NOW + delay)
  if past then
    local untried = past.attempts == '0' and past.claimed == '' and call('ZSCORE', OUTBOX, id)
    if untried and NOW + delay < tonumber(untried) then
      past.payload = payload
      write_post(id, past)
      call('ZADD', OUTBOX, due, id)
    end
    tell_waits() -- also of a repeat: the first answer may be lost
    return by and past.by == by or false
  end
  if call('EXISTS', BASE .. 'sent:' .. id) == 1 then
    return false
  end
  local new = {channel = channel, created = amount(NOW), attempts = '0', by = by or '', claimed = '', why = '',
    payload = payload}
  if call('ZCARD', OUTBOX) >= WAITING_MAX + (channel == 'webhook' and 0 or OWN_MAX) then
    let_die(id, new, 'too many deliveries wait')
    return true
  end
  write_post(id, new)
  call('ZADD', OUTBOX, due, id)
  tell_waits()
  return true
end

return {waiting = OUTBOX, dead = DEAD, posts = POSTS, tell_waits = tell_waits, read = read_post, write = write_post,
  forget_dead = forget_dead, let_die = let_die, post = post}
