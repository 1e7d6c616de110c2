-- Begin an attempt to reserve a group's bundles on the nodes of a plan; one attempt at a time in
-- the whole cluster, so that no two groups can each hold half of what both need.
-- KEYS 1 the group (HASH)  2 groups that wait (LIST)  3 bell
-- ARGV 1 attempt that the plan was made after  2 plan: node ids as a JSON list  3 milliseconds for
--      the nodes to answer  4 prefix of group keys
-- Returns 1 where the attempt began. A second run is refused: the attempt has been made.
--@include when_full
--@include group_mark
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local other = redis.call('HMGET', ARGV[4] .. id, 'st', 'until')
  if other[1] == 'reserving' and tonumber(other[2]) > now then return 0 end
end
local group = redis.call('HMGET', KEYS[1], 'st', 'attempt', 'until')
if group[1] ~= 'waiting' and group[1] ~= 'reserving' then return 0 end
if tonumber(group[3]) > now then return 0 end
if group[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'st', 'reserving', 'attempt', tonumber(ARGV[1]) + 1, 'plan', ARGV[2],
  'until', string.format('%.0f', now + tonumber(ARGV[3])))
mark(KEYS[2])
redis.call('PUBLISH', KEYS[3], 'groups')
return 1
