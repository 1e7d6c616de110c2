-- An actor that has ended, or stands still, is seen to: nobody else need do it.
-- KEYS 1 meta (HASH)  2 dying (HASH actor id -> queue)
-- ARGV 1 actor id  2 its epoch when it was looked at
-- Returns 1, or 0: it has lived again since. May run twice.
--@include when_full
local epoch = redis.call('HGET', KEYS[1], 'ep')
if epoch and epoch ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
