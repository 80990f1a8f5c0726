-- unuse: forget that a name was used by one: what it was used for was not done.
--
-- KEYS  1-6 as in lib, 7 once:<name>
-- ARGV  2 who used it
-- Answers  unused                     now, before, or it is another one's
-- Callers  RedisLedger.unuse
if call('GET', KEYS[7]) ~= ARGV[2] then
  return answer('unused')
end

-- From here it must succeed: only writes.
call('DEL', KEYS[7])
return answer('unused')
