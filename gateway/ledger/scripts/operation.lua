-- operation: the prelude of the verbs that have an operation id: what was done before is answered again.
--
-- KEYS and ARGV of those verbs: KEYS 7 op:<operation>, ARGV 2 digest of the operation's content.
-- Answers of them all: conflict (the operation was used before with other content).
local past = call('GET', KEYS[7])
if past then
  local digest, reply = string.match(past, '^1 (%x+) (.*)$')
  if digest ~= ARGV[2] then
    return answer('conflict')
  end
  return answer(unpack(cjson.decode(reply)))
end

-- Remember the answer under the operation, count the change, and give it.
local function done(tag, facts)
  call('HINCRBY', ACCOUNT, 'changes', 1)
  call('SET', KEYS[7], '1 ' .. ARGV[2] .. ' ' .. cjson.encode({tag, facts}), 'EX', REMEMBER)
  return answer(tag, facts)
end
