-- Free the name and the keys of a dead actor whose queue is empty.
-- KEYS 1 queue  2 meta  3 callers  4 parked  5 spec  6 names  7 actors  8 job (SET)  9 tokens (SET)
--      10 what ends with its creator (SET)  11 passive actors (SET)  12 reminders (HASH)
--      13 due times of reminders (ZSET "<queue>|<actor id>|<name>")
--      14 what it printed (STREAM)  15 the dead that are remembered (ZSET "<queue>|<actor id>")
--      16.. state, journal and outside steps of a durable one
-- ARGV 1 actor id  2 seconds to remember that it died  3 how many dead to remember at most
-- Returns 1 buried now or before, or not dead at all; 0 not yet (calls remain).
-- Of an actor that crashed the name stays taken while somebody holds a handle (Ray's rule): then
-- its record stays, too, and whoever drops the last tie frees both (let_go).
local meta = redis.call('HMGET', KEYS[2], 'st', 'name', 'killed')
if meta[1] ~= 'dead' then return 1 end
if redis.call('HEXISTS', KEYS[7], ARGV[1]) == 0 then return 1 end
if redis.call('LLEN', KEYS[1]) > 0 or redis.call('HLEN', KEYS[4]) > 0 then return 0 end
local named = meta[2] and meta[2] ~= '' and redis.call('HGET', KEYS[6], meta[2]) == ARGV[1]
local keeps = named and not meta[3] and redis.call('EXISTS', KEYS[9]) == 1
if named and not keeps then redis.call('HDEL', KEYS[6], meta[2]) end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('UNLINK', unpack(KEYS, 16))
for _, name in ipairs(redis.call('HKEYS', KEYS[12])) do
  redis.call('ZREM', KEYS[13], table.concat({KEYS[1], ARGV[1], name}, '|'))
end
redis.call('DEL', KEYS[12])
redis.call('HDEL', KEYS[7], ARGV[1])
redis.call('SREM', KEYS[8], ARGV[1])
redis.call('SREM', KEYS[10], ARGV[1])
redis.call('SREM', KEYS[11], ARGV[1])
redis.call('EXPIRE', KEYS[14], ARGV[2])
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[15], now, KEYS[1] .. '|' .. ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[15], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[15], 0, -ARGV[3] - 1)
redis.call('EXPIRE', KEYS[15], ARGV[2])
-- From here on nobody may settle calls in its name: a successor may share its queue.
redis.call('HSET', KEYS[2], 'st', 'buried', 'own', '')
if keeps then
  redis.call('HSET', KEYS[2], 'keeps', '1')
else
  redis.call('DEL', KEYS[9])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 1
