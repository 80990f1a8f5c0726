-- jobs: the account's open jobs that are followed, the next one to be looked at first.
--
-- KEYS  1-6 as in lib
-- ARGV  2 the most to list
-- Answers  jobs, the time (ms), {kind:id, next look (ms), hash} of each
-- Callers  RedisLedger.jobs
local jobs = {}
local followed = call('ZRANGE', JOBS, 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #followed, 2 do
  local job = call('HGETALL', BASE .. 'res:' .. followed[i])
  if call('HGET', BASE .. 'res:' .. followed[i], 'state') == 'open' then
    jobs[#jobs + 1] = {followed[i], followed[i + 1], job}
  end
end
return answer('jobs', amount(NOW), jobs)
