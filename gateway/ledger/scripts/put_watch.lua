-- put_watch: watch something of the account. The same watch again keeps what it has told; another kind or amount of it
-- begins anew, and tells at once what it finds, and so does one that shall.
--
-- KEYS  1-6 as in lib
-- ARGV  2 watch id, 3 kind, 4 amount, 5 channel, 6 data (JSON), 7 the most that an account may have,
--       8 '1' if it begins anew
-- Answers  watch, {id, record}
--          too_many                   the account has the most
-- Callers  RedisLedger.put_watch
local past = call('HGET', watch().key, ARGV[2])
if not past and call('HLEN', watch().key) >= tonumber(ARGV[7]) then
  return answer('too_many')
end

-- From here it must succeed: only writes.
local its = {id = ARGV[2], kind = ARGV[3], amount = ARGV[4], channel = ARGV[5], told = '', data = ARGV[6]}
if past and ARGV[8] ~= '1' then
  local was = watch().read(ARGV[2], past)
  if was.kind == its.kind and was.amount == its.amount then
    its.told = was.told
  end
end
watch().write(its)
watched = call('HGET', ACCOUNT, 'watch')
if watch().spending[its.kind] and not (watched and string.find(watched, 'd', 1, true)) then
  watch().begin_spending()
end
watch().arm(watch().all())
watch().look(call('HGET', ACCOUNT, 'balance'), {})
return answer('watch', {ARGV[2], call('HGET', watch().key, ARGV[2])})
