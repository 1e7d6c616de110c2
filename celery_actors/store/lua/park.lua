-- Move the oldest call out of line: one of its arguments is not ready.
-- KEYS 1 mailbox (LIST)   2 meta (HASH)   3 parked (HASH position -> message)
-- ARGV 1 epoch  2 owner  3 position of the call
-- Returns 0, -10 fenced, -11 not our position. Idempotent by position.
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'ap')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
local ap, pos = tonumber(meta[3] or '0'), tonumber(ARGV[3])
if ap == pos + 1 and redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then return 0 end
if ap ~= pos then return -11 end
redis.call('HSET', KEYS[3], ARGV[3], redis.call('RPOP', KEYS[1]))
redis.call('HSET', KEYS[2], 'ap', pos + 1)
return 0
