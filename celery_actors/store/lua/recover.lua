-- A shared worker is gone: answer the calls it may not run again, return the others to the front
-- of their queue in order, forget the worker. Only for its (epoch, owner).
-- KEYS 1 taken calls (LIST)  2 the worker's meta  3 shared queue  4 what the node run owns
--      5 needs (HASH)
-- ARGV 1 epoch  2 owner  3 calls seen in the list  4 worker id  5 need to ring for or ''  6 bell
--      7 result lifetime  8 position when the list was seen  9 how far calls were marked as begun
--      then  10 number of answers  11.. answers (see post_results), then the messages to return,
--      newest first
-- Returns 0, -10 fenced or already recovered, -11 the worker lives, and has gone on since.
--@include when_full
--@include post_results
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'needs', 'ap', 'go')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
if meta[4] ~= ARGV[8] or meta[5] ~= ARGV[9] then return -11 end
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[3]) then return -11 end
local answers = tonumber(ARGV[10])
post_results(11, answers, ARGV[7])
for i = 11 + 3 * answers, #ARGV do redis.call('RPUSH', KEYS[3], ARGV[i]) end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SREM', KEYS[4], ARGV[4])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[5], ARGV[5], meta[3])
  redis.call('PUBLISH', ARGV[6], ARGV[5])
end
return 0
