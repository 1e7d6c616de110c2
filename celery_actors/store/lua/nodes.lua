-- List the node runs, and whether each holds its lease.
-- KEYS 1 nodes (HASH)
-- ARGV 1 prefix of lease keys
-- Returns a flat list: node run, its description, 1 where it lives
local found = {}
local nodes = redis.call('HGETALL', KEYS[1])
for i = 1, #nodes, 2 do
  found[#found + 1] = nodes[i]
  found[#found + 1] = nodes[i + 1]
  found[#found + 1] = redis.call('EXISTS', ARGV[1] .. nodes[i])
end
return found
