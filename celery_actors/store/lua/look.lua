-- What waits for a node? A need under which nothing waits any more is forgotten.
-- KEYS 1 needs (HASH label -> JSON)  2 placement groups that wait (LIST)
-- ARGV 1 prefix of creation queues  2 prefix of shared queues
--      3.. pairs of label and JSON: needs that plain Celery clients may send, registered or not
-- Returns {placement groups that wait, then for each need under which something waits: label, JSON,
--          actors, calls}. May run twice: it only reads, and forgets what is empty.
local found = {redis.call('LLEN', KEYS[2])}
local function look(label, need)
  local actors = redis.call('LLEN', ARGV[1] .. label)
  local calls = redis.call('LLEN', ARGV[2] .. label)
  if actors + calls == 0 then return false end
  for _, word in ipairs({label, need, actors, calls}) do found[#found + 1] = word end
  return true
end
local seen = {}
local needs = redis.call('HGETALL', KEYS[1])
for i = 1, #needs, 2 do
  seen[needs[i]] = true
  if not look(needs[i], needs[i + 1]) then redis.call('HDEL', KEYS[1], needs[i]) end
end
for i = 3, #ARGV, 2 do
  if not seen[ARGV[i]] then look(ARGV[i], ARGV[i + 1]) end
end
return found
