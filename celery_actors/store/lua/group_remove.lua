-- Remove a placement group: nodes give back what they hold for it and end what runs there.
-- KEYS 1 the group (HASH)  2 all groups (SET)  3 groups that wait (LIST)  4 what ends with its
--      driver (SET) or ''  5 bell  6 names (HASH)
-- ARGV 1 id  2 seconds for which it is remembered
-- Returns 1 where it existed. Idempotent.
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('LREM', KEYS[3], 0, ARGV[1])
if KEYS[4] ~= '' then redis.call('SREM', KEYS[4], ARGV[1]) end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local name = redis.call('HGET', KEYS[1], 'name')
if redis.call('HGET', KEYS[6], name) == ARGV[1] then redis.call('HDEL', KEYS[6], name) end
redis.call('HSET', KEYS[1], 'st', 'removed')
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', KEYS[5], 'groups')
return 1
