-- Declare an actor dead and fence its process at once. Its node kills the process.
-- KEYS 1 meta (HASH)  2 names (HASH)  3 dying: ended and not settled (HASH actor id -> queue)
-- ARGV 1 actor id  2 cause  3 key prefix of nodes  4 seconds to remember one that had died before
-- Returns 1 killed now, 0 already dead or unknown. Its name is free from now on.
--@include when_full
local meta = redis.call('HMGET', KEYS[1], 'st', 'ep', 'own', 'keeps', 'name', 'queue')
if meta[4] then
  if redis.call('HGET', KEYS[2], meta[5]) == ARGV[1] then redis.call('HDEL', KEYS[2], meta[5]) end
  redis.call('HDEL', KEYS[1], 'keeps')
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
if not meta[1] or meta[1] == 'dead' or meta[1] == 'buried' then return 0 end
redis.call('HSET', KEYS[1], 'st', 'dead', 'own', '@reaper', 'cause', ARGV[2], 'killed', '1',
  'ep', string.format('%.0f', tonumber(meta[2]) + 1))
redis.call('HSET', KEYS[3], ARGV[1], meta[6])
local incarnation = string.match(meta[3], '^([^|]+)|')
if incarnation then
  redis.call('SREM', ARGV[3] .. incarnation .. ':owns', ARGV[1])
  redis.call('SADD', ARGV[3] .. incarnation .. ':kills', ARGV[1])
  redis.call('PUBLISH', ARGV[3] .. incarnation .. ':bell', 'kill')
end
return 1
