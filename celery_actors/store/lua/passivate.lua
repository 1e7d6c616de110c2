-- Let an idle actor be without a process until its next call (see rouse).
-- KEYS 1 queue  2 meta (HASH)  3 parked (HASH)  4 what the node run owns (SET)  5 passive actors (SET)
--      6 spec (STRING) where it is needed no more: the state is there; else ''
-- ARGV 1 epoch  2 owner  3 actor id
-- Returns 1 passive from now on; 0 a call waits: it goes on; -10 fenced
-- Idempotent: the owner that made it passive hears the same again until its next call.
--@include when_full
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'st')
if meta[1] == ARGV[1] and meta[3] == 'passive' then return 1 end
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
if redis.call('LLEN', KEYS[1]) > 0 or redis.call('HLEN', KEYS[3]) > 0 then return 0 end
-- Written anew without what only a process has, and without what is empty: a hash that has ever had
-- a long value takes three times the memory, also after that is gone.
local gone = {st = true, own = true, node = true, pid = true, cid = true, cause = true}
local flat, kept = redis.call('HGETALL', KEYS[2]), {'st', 'passive', 'own', ''}
for i = 1, #flat, 2 do
  if not gone[flat[i]] and flat[i + 1] ~= '' then
    kept[#kept + 1] = flat[i]
    kept[#kept + 1] = flat[i + 1]
  end
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(kept))
if KEYS[6] ~= '' then redis.call('DEL', KEYS[6]) end
redis.call('SREM', KEYS[4], ARGV[3])
redis.call('SADD', KEYS[5], ARGV[3])
return 1
