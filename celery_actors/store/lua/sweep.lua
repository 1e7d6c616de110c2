-- Look at some passive actors: one on whose queue a plain Celery client has put a call is asked a
-- process for (see rouse). What they will be made from stays for another while.
-- KEYS 1 passive actors (SET)  2 actors (HASH actor id -> queue)
-- ARGV 1 cursor of the last look, '0' to begin  2 actors to look at  3 key prefix
--      4 seconds for which code stays
-- Returns {cursor, number roused}. May run twice: nothing is lost by it.
--@include when_full
--@include rouse
local reply = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local roused = 0
for _, actor in ipairs(reply[2]) do
  local queue = redis.call('HGET', KEYS[2], actor)
  local key = ARGV[3] .. ':{' .. (queue or '') .. '}:' .. actor .. ':m'
  local meta = redis.call('HMGET', key, 'st', 'code', 'traits', 'needs')
  if meta[1] ~= 'passive' then
    redis.call('SREM', KEYS[1], actor)
  elseif redis.call('LLEN', queue) > 0 then
    rouse(key)
    roused = roused + 1
  else
    redis.call('EXPIRE', ARGV[3] .. ':code:' .. (meta[2] or ''), ARGV[4])
    redis.call('EXPIRE', ARGV[3] .. ':code:' .. (meta[3] or ''), ARGV[4])
    local env = string.match(meta[4] or '', '"env":"([^"]+)"')
    if env then redis.call('EXPIRE', ARGV[3] .. ':env:' .. env, ARGV[4]) end
  end
end
return {reply[1], roused}
