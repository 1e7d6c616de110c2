-- Have the process of an actor killed by the node run that owns it, in one step: between a look and
-- a word of its own, others may take that node over, and nobody would remove the word.
-- KEYS 1 meta (HASH)
-- ARGV 1 actor id  2 key prefix of nodes
-- Returns 1, or 0: no process has it. May run twice.
--@include when_full
local incarnation = string.match(redis.call('HGET', KEYS[1], 'own') or '', '^([^|]+)|')
if not incarnation then return 0 end
redis.call('SADD', ARGV[2] .. incarnation .. ':kills', ARGV[1])
redis.call('PUBLISH', ARGV[2] .. incarnation .. ':bell', 'kill')
return 1
