-- Keep what an outside step of a running call gave, until the call commits.
-- KEYS 1 meta (HASH)   2 steps (HASH "<call id>.<number>" -> value)
-- ARGV 1 epoch  2 owner  3 field  4 value
-- Returns 0 or -10 fenced. Idempotent: a field is written once by its call.
--@include when_full
local meta = redis.call('HMGET', KEYS[1], 'ep', 'own')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 0
