-- Declare an actor dead and fence its process at once. Its node kills the process.
-- KEYS 1 meta (HASH)   ARGV 1 actor id  2 cause  3 key prefix of nodes
-- Returns 1 killed now, 0 already dead or unknown.
local meta = redis.call('HMGET', KEYS[1], 'st', 'ep', 'own')
if not meta[1] or meta[1] == 'dead' or meta[1] == 'buried' then return 0 end
redis.call('HSET', KEYS[1], 'st', 'dead', 'own', '@reaper', 'cause', ARGV[2],
  'ep', string.format('%.0f', tonumber(meta[2]) + 1))
local incarnation = string.match(meta[3], '^([^|]+)|')
if incarnation then
  redis.call('SREM', ARGV[3] .. incarnation .. ':owns', ARGV[1])
  redis.call('SADD', ARGV[3] .. incarnation .. ':kills', ARGV[1])
  redis.call('PUBLISH', ARGV[3] .. incarnation .. ':bell', 'kill')
end
return 1
