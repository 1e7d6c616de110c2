-- What lies at the front of a mailbox: after a reconnect its owner compares it with what it holds.
-- KEYS 1 mailbox (LIST)   2 meta (HASH)
-- ARGV 1 epoch  2 owner  3 number of messages
-- Returns {0, calls settled or moved out so far, messages oldest first} or {-10} fenced. Only reads.
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'ap')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return {-10} end
local count = tonumber(ARGV[3])
local list = count > 0 and redis.call('LRANGE', KEYS[1], -count, -1) or {}
local oldest = {}
for i = #list, 1, -1 do oldest[#oldest + 1] = list[i] end
return {0, tonumber(meta[3] or '0'), oldest}
