-- Accept function calls of one caller on one shared queue, in order, each once.
-- KEYS 1 shared queue (LIST)   2 this caller's sequences (HASH queue -> last accepted)
--      3 bell (channel)  4 needs (HASH label -> JSON)
-- ARGV 1 sequence of the first message  2 seconds to remember the caller
--      3 need to ring for, or '' where resident workers wait on the queue  4 that need as JSON
--      5.. messages
-- Returns {0, queue length} or {-3, last}. Idempotent like submit.
local first, count = tonumber(ARGV[1]), #ARGV - 4
local last = tonumber(redis.call('HGET', KEYS[2], KEYS[1]) or '0')
if last >= first + count - 1 then return {0, redis.call('LLEN', KEYS[1])} end
if last < first - 1 then return {-3, last} end
local length
for i = last - first + 1, count - 1 do
  length = redis.call('LPUSH', KEYS[1], ARGV[5 + i])
end
redis.call('HSET', KEYS[2], KEYS[1], first + count - 1)
redis.call('EXPIRE', KEYS[2], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[3], ARGV[4])
  redis.call('PUBLISH', KEYS[3], ARGV[3])
end
return {0, length}
