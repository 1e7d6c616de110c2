-- Keep a reminder of an actor, in the place of one of the same name.
-- KEYS 1 meta (HASH)  2 the actor's reminders (HASH name -> see ring)  3 due times (ZSET)
-- ARGV 1 name  2 its member in the due times  3 milliseconds until it is due  4 the reminder
-- Returns 0, -1 no such actor, -2 it is dead. Idempotent but for the due time, which is later then.
local state = redis.call('HGET', KEYS[1], 'st')
if not state then return -1 end
if state == 'dead' or state == 'buried' then return -2 end
local now = redis.call('TIME')
local due = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('ZADD', KEYS[3], string.format('%.0f', due), ARGV[2])
return 0
