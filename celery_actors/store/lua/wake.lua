-- Ask for a process for an actor that stands still.
-- KEYS 1 meta (HASH)  2 creation queue  3 needs (HASH)  4 bell
-- ARGV 1 creation message  2 need label  3 the state it must be in
-- Returns 1 asked now, 0 it is in another state. Idempotent: the state changes.
--@include when_full
if redis.call('HGET', KEYS[1], 'st') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'st', 'restarting', 'own', '')
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[2], redis.call('HGET', KEYS[1], 'needs'))
redis.call('PUBLISH', KEYS[4], ARGV[2])
return 1
