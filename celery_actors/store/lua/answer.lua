-- Store results for calls that no worker will answer, without overwriting one that is there.
-- ARGV 1 result lifetime  2.. results (see post_results)
-- Returns the number stored.
--@include post_results
local count, stored = (#ARGV - 1) / 3, 0
for i = 0, count - 1 do
  if redis.call('EXISTS', ARGV[2 + 3 * i]) == 1 then
    ARGV[2 + 3 * i] = ''
  else
    stored = stored + 1
  end
end
post_results(2, count, ARGV[1])
return stored
