-- Let others settle what a node run owned: its lease is over. From now on it can renew that no more,
-- and so claim nothing.
-- KEYS 1 lease  2 set when the node run is over
-- ARGV 1 seconds for which that is known: as long as the settling may take
-- Returns 1, or 0: it lives. May run twice.
--@include when_full
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[2], '1', 'EX', ARGV[1])
return 1
