-- Free the name and the keys of a dead actor whose queue is empty.
-- KEYS 1 queue  2 meta  3 callers  4 parked  5 spec  6 names  7 actors  8 job (SET)
-- ARGV 1 actor id  2 seconds to remember that it died
-- Returns 1 buried now or before, or not dead at all; 0 not yet (calls remain).
local meta = redis.call('HMGET', KEYS[2], 'st', 'name')
if meta[1] ~= 'dead' then return 1 end
if redis.call('HEXISTS', KEYS[7], ARGV[1]) == 0 then return 1 end
if redis.call('LLEN', KEYS[1]) > 0 or redis.call('HLEN', KEYS[4]) > 0 then return 0 end
if meta[2] and meta[2] ~= '' and redis.call('HGET', KEYS[6], meta[2]) == ARGV[1] then
  redis.call('HDEL', KEYS[6], meta[2])
end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('HDEL', KEYS[7], ARGV[1])
redis.call('SREM', KEYS[8], ARGV[1])
-- From here on nobody may settle calls in its name: a successor may share its queue.
redis.call('HSET', KEYS[2], 'st', 'buried', 'own', '')
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
