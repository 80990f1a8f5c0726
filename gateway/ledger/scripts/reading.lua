-- reading: the prelude of the verbs that tell how an account stands, once everything is ended that is over.
--
-- Answers of them all: more (there was more to end than one script may: ask again).
if ended + ended_grants == ENDED_MAX then
  return answer('more')
end
