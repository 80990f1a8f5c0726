-- known: the prelude of every verb that does not find out by itself whether there is such an account.
--
-- Answers of them all: unknown (no such account).
if call('EXISTS', ACCOUNT) == 0 then
  return answer('unknown')
end
