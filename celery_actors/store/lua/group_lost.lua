-- A node is gone: the bundles that it held look for a new place, the others stay.
-- KEYS 1 the group (HASH)  2 groups that wait (LIST)  3 bell
-- ARGV 1 node run  2 id  3 number of bundles
-- Returns the number of bundles lost. Idempotent: a second run finds none.
local lost = 0
for i = 0, tonumber(ARGV[3]) - 1 do
  if redis.call('HGET', KEYS[1], 'on:' .. i) == ARGV[1] then
    redis.call('HDEL', KEYS[1], 'on:' .. i)
    lost = lost + 1
  end
end
if lost > 0 and redis.call('HGET', KEYS[1], 'st') == 'created' then
  redis.call('HSET', KEYS[1], 'st', 'waiting')
  redis.call('LREM', KEYS[2], 0, ARGV[2])
  redis.call('LPUSH', KEYS[2], ARGV[2])
end
if lost > 0 then redis.call('PUBLISH', KEYS[3], 'groups') end
return lost
