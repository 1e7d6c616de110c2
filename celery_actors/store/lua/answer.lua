-- Store results outside a commit, without overwriting one that is there: for calls that no worker
-- will answer, and values of a call that runs.
-- KEYS 1 meta (HASH) of who runs the call, or '' where nobody does
-- ARGV 1 epoch  2 owner  3 result lifetime  4.. results (see post_results)
-- Returns the number stored, or -10 fenced: someone else owns the mailbox.
--@include when_full
--@include post_results
if KEYS[1] ~= '' then
  local meta = redis.call('HMGET', KEYS[1], 'ep', 'own')
  if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
end
local count, stored = (#ARGV - 3) / 3, 0
for i = 0, count - 1 do
  if redis.call('EXISTS', ARGV[4 + 3 * i]) == 1 then
    ARGV[4 + 3 * i] = ''
  else
    stored = stored + 1
  end
end
post_results(4, count, ARGV[3])
return stored
