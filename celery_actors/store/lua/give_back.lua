-- Return calls that a shared worker took and did not start to the front of their queue, in order.
-- KEYS 1 taken calls (LIST, oldest at the right)  2 the worker's meta  3 shared queue  4 needs (HASH)
-- ARGV 1 epoch  2 owner  3 calls to keep (the oldest)  4 need to ring for or ''  5 bell
-- Returns the number given back, or -10 fenced. Idempotent: a second run finds nothing.
--@include when_full
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'needs')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
local extra = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[3])
for _ = 1, extra do redis.call('LMOVE', KEYS[1], KEYS[3], 'LEFT', 'RIGHT') end
if extra > 0 and ARGV[4] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[4], meta[3])
  redis.call('PUBLISH', ARGV[5], ARGV[4])
end
return math.max(extra, 0)
