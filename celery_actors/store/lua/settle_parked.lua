-- Settle one parked call.
-- KEYS 1 meta (HASH)   2 parked (HASH)
-- ARGV 1 epoch  2 owner  3 position  4 result lifetime  5.. result (see post_results)
-- Returns 0 or -10 fenced. Idempotent: a position that is gone is already settled.
--@include post_results
local meta = redis.call('HMGET', KEYS[1], 'ep', 'own')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
if redis.call('HDEL', KEYS[2], ARGV[3]) == 1 then
  redis.call('HDEL', KEYS[1], 'parked_go')
  post_results(5, 1, ARGV[4])
end
return 0
