-- Part of a durable actor's commit: forget the outside steps of the calls that it settles.
-- KEYS 1 steps (HASH)   ARGV fields
-- Returns the number forgotten.
return redis.call('HDEL', KEYS[1], unpack(ARGV))
