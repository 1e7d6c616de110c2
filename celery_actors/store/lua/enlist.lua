-- Enter a process in the books of its node before it starts, so that others settle what it leaves.
-- KEYS 1 sessions of the node run (SET)  2 what the node run owns (SET)
--      3 meta of a shared worker (HASH) or '' (an actor: that is claimed)
-- ARGV 1 session  2 worker id  3.. pairs for meta
-- Returns 1. May run twice.
--@include when_full
redis.call('SADD', KEYS[1], ARGV[1])
if KEYS[3] ~= '' then
  redis.call('SADD', KEYS[2], ARGV[2])
  redis.call('HSET', KEYS[3], unpack(ARGV, 3))
end
return 1
