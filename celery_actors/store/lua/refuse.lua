-- Answer the oldest calls of a shared queue that no node can ever run.
-- KEYS 1 shared queue (LIST)
-- ARGV 1 the oldest message  2 the newest of those answered  3 result lifetime
--      4 number of calls  5.. answers (see post_results)
-- Returns 0, or -11: the queue has moved on. A second run finds other calls at the end.
--@include post_results
local count = tonumber(ARGV[4])
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[1] then return -11 end
if redis.call('LINDEX', KEYS[1], -count) ~= ARGV[2] then return -11 end
redis.call('LTRIM', KEYS[1], 0, -count - 1)
post_results(5, count, ARGV[3])
return 0
