-- Have the process of an actor killed by the node run that owns it, in one step: between a look and
-- a word of its own, others may take that node over, and nobody would remove the word. One that stands
-- still is asked a process for instead.
-- KEYS 1 meta (HASH); with those that follow from it, see rouse
-- ARGV 1 actor id  2 key prefix of nodes
-- Returns 1, or 0: no process has it. May run twice.
--@include when_full
--@include rouse
local meta = redis.call('HMGET', KEYS[1], 'st', 'own')
if meta[1] == 'frozen' then
  redis.call('HSET', KEYS[1], 'own', '')
  rouse(KEYS[1])
  return 1
end
local incarnation = string.match(meta[2] or '', '^([^|]+)|')
if not incarnation then return 0 end
redis.call('SADD', ARGV[2] .. incarnation .. ':kills', ARGV[1])
redis.call('PUBLISH', ARGV[2] .. incarnation .. ':bell', 'kill')
return 1
