-- What a node must know of the line of placement groups, in one round trip.
-- KEYS 1 groups that wait (LIST)  2 its mark
-- ARGV 1 prefix of group keys  2 mark of the line as it was seen last, or ''
--      3.. ids of groups for which something is held
-- Returns {mark of the line, ids in order, ids of those being reserved, records of ARGV 3.. as flat
--          lists}; both lists of ids are empty where the mark is the one that was seen. Only reads.
local records = {}
for i = 3, #ARGV do records[i - 2] = redis.call('HGETALL', ARGV[1] .. ARGV[i]) end
local mark = redis.call('GET', KEYS[2]) or 'empty'
if mark == ARGV[2] then return {mark, {}, {}, records} end
local ids = redis.call('LRANGE', KEYS[1], 0, -1)
local reserving = {}
for _, id in ipairs(ids) do
  if redis.call('HGET', ARGV[1] .. id, 'st') == 'reserving' then reserving[#reserving + 1] = id end
end
return {mark, ids, reserving, records}
