-- Note that calls out of line may have started from now on.
-- KEYS 1 meta (HASH)   2 begun (SET of positions)   ARGV 1 epoch  2 owner  3.. positions
-- Returns 0 or -10 fenced.
--@include when_full
local meta = redis.call('HMGET', KEYS[1], 'ep', 'own')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
redis.call('SADD', KEYS[2], unpack(ARGV, 3))
return 0
