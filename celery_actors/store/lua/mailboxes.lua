-- How far are these mailboxes? For watchers.
-- KEYS three for each: its queue (LIST), its record (HASH), its calls out of line (HASH)
-- Returns a flat list: calls that are not settled, calls that have been settled so far.
-- May run twice: it only reads.
local found = {}
for i = 1, #KEYS, 3 do
  local aside = redis.call('HLEN', KEYS[i + 2])
  local passed = tonumber(redis.call('HGET', KEYS[i + 1], 'ap') or 0)
  found[#found + 1] = redis.call('LLEN', KEYS[i]) + aside
  found[#found + 1] = math.max(0, passed - aside)
end
return found
