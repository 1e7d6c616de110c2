-- What a node must know of the line of placement groups, in one round trip.
-- KEYS 1 groups that wait (LIST)
-- ARGV 1 prefix of group keys  2 mark of the line as it was seen last, or ''
--      3.. ids of groups for which something is held
-- Returns {mark of the line, ids in order, ids of those being reserved, records of ARGV 3.. as flat
--          lists}; both lists of ids are empty where the mark is the one that was seen. Only reads.
-- The mark covers all that steps in the life of a group change, but what is of no use to planning:
-- its state, its attempts, and how many fields it has, so how many bundles have their place.
local ids = redis.call('LRANGE', KEYS[1], 0, -1)
local states, reserving = {}, {}
for i, id in ipairs(ids) do
  local key = ARGV[1] .. id
  local group = redis.call('HMGET', key, 'st', 'attempt')
  states[i] = id .. ' ' .. (group[1] or '') .. ' ' .. (group[2] or '') .. ' ' .. redis.call('HLEN', key)
  if group[1] == 'reserving' then reserving[#reserving + 1] = id end
end
local mark = redis.sha1hex(table.concat(states, '\n'))
local records = {}
for i = 3, #ARGV do records[i - 2] = redis.call('HGETALL', ARGV[1] .. ARGV[i]) end
if mark == ARGV[2] then return {mark, {}, {}, records} end
return {mark, ids, reserving, records}
