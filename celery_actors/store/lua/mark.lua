-- Write fields of a record, if the writer still owns it.
-- KEYS 1 meta (HASH)   ARGV 1 epoch  2 owner  3.. field, value pairs
-- Returns 0 or -10 fenced.
--@include when_full
local meta = redis.call('HMGET', KEYS[1], 'ep', 'own')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 0
