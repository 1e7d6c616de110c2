-- A node is gone: the bundles that it held look for a new place, the others stay. An attempt that
-- counts on it is over, also where it has answered: its bundles would be nowhere.
-- KEYS 1 the group (HASH)  2 groups that wait (LIST)  3 bell
-- ARGV 1 node run  2 id  3 number of bundles
-- Returns the number of bundles lost. Idempotent: a second run finds none.
--@include when_full
--@include group_mark
local group = redis.call('HMGET', KEYS[1], 'st', 'plan')
local lost, over = 0, false
for i = 0, tonumber(ARGV[3]) - 1 do
  if redis.call('HGET', KEYS[1], 'on:' .. i) == ARGV[1] then
    redis.call('HDEL', KEYS[1], 'on:' .. i)
    lost = lost + 1
  end
end
if group[1] == 'reserving' then
  for _, node in ipairs(cjson.decode(group[2])) do over = over or node == ARGV[1] end
end
if lost > 0 and group[1] == 'created' then
  redis.call('LREM', KEYS[2], 0, ARGV[2])
  redis.call('LPUSH', KEYS[2], ARGV[2])
  over = true
end
if over then
  redis.call('HSET', KEYS[1], 'st', 'waiting', 'until', 0)
  redis.call('PUBLISH', KEYS[3], 'groups')
end
if lost > 0 or over then mark(KEYS[2]) end
return lost
