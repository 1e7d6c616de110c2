-- Accept function calls of one caller on one shared queue, in order, each once.
-- KEYS 1 shared queue (LIST)   2 this caller's sequences (HASH queue -> last accepted)
--      3 bell (channel)  4 needs (HASH label -> JSON)
-- ARGV 1 sequence of the first message  2 the accepted sequence that it follows (see submit)
--      3 seconds to remember the caller
--      4 need to ring for, or '' where resident workers wait on the queue  5 that need as JSON
--      6.. messages
-- Returns {0, queue length} or {-3, last}. Idempotent like submit.
--@include push
local first, after, count = tonumber(ARGV[1]), tonumber(ARGV[2]), #ARGV - 5
local last = tonumber(redis.call('HGET', KEYS[2], KEYS[1]) or '0')
if last >= first + count - 1 then return {0, redis.call('LLEN', KEYS[1])} end
if last < after then return {-3, last} end
local length = push('LPUSH', KEYS[1], ARGV, 6 + math.max(0, last - first + 1))
redis.call('HSET', KEYS[2], KEYS[1], first + count - 1)
redis.call('EXPIRE', KEYS[2], ARGV[3])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
  redis.call('PUBLISH', KEYS[3], ARGV[4])
end
return {0, length}
