-- A node holds some of a group's bundles, or has no room for them.
-- KEYS 1 the group (HASH)  2 groups that wait (LIST)  3 bell  4 lease of the node run
-- ARGV 1 attempt  2 id  3 '1' held or '' refused  4 number of bundles of the group
--      5 node run  6 milliseconds before the next attempt where this one fails: what the plan was
--      made from may have been old, and nodes say what they have once a second
--      7.. indexes of the bundles
-- Returns 1 where the answer counts; 0: the attempt is over, so nothing may be held for it.
-- May run twice. The last answer makes the group: all bundles are held, so all are its own at once.
--@include when_full
--@include group_mark
local group = redis.call('HMGET', KEYS[1], 'st', 'attempt')
if group[1] ~= 'reserving' or group[2] ~= ARGV[1] or redis.call('EXISTS', KEYS[4]) == 0 then
  local mine = ARGV[3] == '1' and group[1] and group[1] ~= 'removed'
  for i = 7, #ARGV do
    mine = mine and redis.call('HGET', KEYS[1], 'on:' .. ARGV[i]) == ARGV[5]
  end
  return mine and 1 or 0
end
if ARGV[3] == '' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], 'st', 'waiting', 'until',
    string.format('%.0f', now + tonumber(ARGV[6])))
  mark(KEYS[2])
  redis.call('PUBLISH', KEYS[3], 'groups')
  return 1
end
for i = 7, #ARGV do redis.call('HSET', KEYS[1], 'held:' .. ARGV[i], ARGV[1]) end
local plan = cjson.decode(redis.call('HGET', KEYS[1], 'plan'))
for i = 0, tonumber(ARGV[4]) - 1 do
  local at = redis.call('HMGET', KEYS[1], 'on:' .. i, 'held:' .. i)
  if not at[1] and at[2] ~= ARGV[1] then return 1 end
end
for i = 0, tonumber(ARGV[4]) - 1 do
  redis.call('HSET', KEYS[1], 'on:' .. i, plan[i + 1])
  redis.call('HDEL', KEYS[1], 'held:' .. i)
end
redis.call('HSET', KEYS[1], 'st', 'created')
redis.call('LREM', KEYS[2], 0, ARGV[2])
mark(KEYS[2])
redis.call('PUBLISH', KEYS[3], 'groups')
return 1
