-- Move a message of another broker into a queue, once: it may be delivered again.
-- KEYS 1 queue (LIST, next call at the right end)   2 mark of the message (STRING)
-- ARGV 1 seconds for which a second delivery is known   2 message
-- Returns 1 where it was new.
-- Idempotent: by the mark.
--@include when_full
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[1]) then return 0 end
redis.call('LPUSH', KEYS[1], ARGV[2])
return 1
