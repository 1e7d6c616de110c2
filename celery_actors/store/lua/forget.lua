-- Forget a reminder of an actor.
-- KEYS 1 the actor's reminders (HASH)  2 due times (ZSET)   ARGV 1 name  2 its member in the due times
-- Returns 1 it is gone now, 0 there was none. Idempotent.
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
