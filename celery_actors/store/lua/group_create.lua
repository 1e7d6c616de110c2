-- Create a placement group and put it in line.
-- KEYS 1 the group (HASH)  2 all groups (SET)  3 groups that wait (LIST)  4 what ends with its
--      driver (SET) or ''  5 bell
-- ARGV 1 id  2.. pairs of fields
-- Returns 0. Idempotent by id.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'st', 'waiting', 'attempt', 0, 'until', 0, unpack(ARGV, 2))
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
if KEYS[4] ~= '' then redis.call('SADD', KEYS[4], ARGV[1]) end
redis.call('PUBLISH', KEYS[5], 'groups')
return 0
