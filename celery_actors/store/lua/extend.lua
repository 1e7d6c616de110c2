-- Let keys stay for at least so long. One that stays longer, or for good, is left alone; as
-- `EXPIRE … GT`, which servers before 7.0 do not know.
-- KEYS the keys
-- ARGV 1 seconds
-- Returns the number extended. May run twice.
local extended = 0
for _, key in ipairs(KEYS) do
  local left = redis.call('TTL', key)
  if left >= 0 and left < tonumber(ARGV[1]) then
    redis.call('EXPIRE', key, ARGV[1])
    extended = extended + 1
  end
end
return extended
