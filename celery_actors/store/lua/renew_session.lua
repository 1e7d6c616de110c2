-- Keep a driver's session alive.
-- KEYS 1 sessions (ZSET)   ARGV 1 session  2 milliseconds  3 '1' it begins now
-- A session that has ended does not come back.
--@include when_full
local now = redis.call('TIME')
local expiry = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[2])
local how = ARGV[3] == '1' and 'GT' or 'XX'
redis.call('ZADD', KEYS[1], how, string.format('%.0f', expiry), ARGV[1])
return 1
