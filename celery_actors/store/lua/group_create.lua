-- Create a placement group and put it in line.
-- KEYS 1 the group (HASH)  2 all groups (SET)  3 groups that wait (LIST)  4 what ends with its
--      driver (SET) or ''  5 bell  6 names (HASH)  7 set when its driver's session is over
-- ARGV 1 id  2 name or ''  3.. pairs of fields
-- Returns 0, -1: the name is taken, -2: the session is over. Idempotent by id.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if KEYS[4] ~= '' and redis.call('EXISTS', KEYS[7]) == 1 then return -2 end
if ARGV[2] ~= '' and redis.call('HSETNX', KEYS[6], ARGV[2], ARGV[1]) == 0 then return -1 end
redis.call('HSET', KEYS[1], 'st', 'waiting', 'attempt', 0, 'until', 0, 'name', ARGV[2], unpack(ARGV, 3))
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
if KEYS[4] ~= '' then redis.call('SADD', KEYS[4], ARGV[1]) end
redis.call('PUBLISH', KEYS[5], 'groups')
return 0
