-- Let one node keep what comes free for the oldest request of a need, instead of all nodes.
-- KEYS 1 who does (STRING)
-- ARGV 1 node run  2 milliseconds
-- Returns 1 where this node does. May run twice: it renews.
--@include when_full
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
