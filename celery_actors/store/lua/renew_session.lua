-- Keep a driver's session alive.
-- KEYS 1 sessions (ZSET)   ARGV 1 session  2 milliseconds
local now = redis.call('TIME')
local expiry = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', expiry), ARGV[1])
return 1
