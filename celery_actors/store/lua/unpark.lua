-- Put the parked calls of a dead or frozen actor back in line, so that they are answered with the rest.
-- KEYS 1 queue  2 meta  3 parked  4 begun   ARGV 1 epoch
-- Returns the number put back. Idempotent: a second run finds nothing parked.
--@include when_full
local meta = redis.call('HMGET', KEYS[2], 'st', 'ep', 'ap')
if meta[1] ~= 'dead' and meta[1] ~= 'frozen' or meta[2] ~= ARGV[1] then return 0 end
local parked = redis.call('HKEYS', KEYS[3])
table.sort(parked, function(a, b) return tonumber(a) > tonumber(b) end)
for _, position in ipairs(parked) do
  redis.call('RPUSH', KEYS[1], redis.call('HGET', KEYS[3], position))
end
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('HSET', KEYS[2], 'ap', tonumber(meta[3]) - #parked)
return #parked
