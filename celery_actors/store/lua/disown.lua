-- Take an actor or shared worker from what a node run owns, unless its record names that node run.
-- KEYS 1 what the node run owns (SET)  2 meta of the actor or worker (HASH)
-- ARGV 1 its id  2 node run
-- Returns 1, or 0: it is still owned, by a process that has to be found.
--@include when_full
local owner = redis.call('HGET', KEYS[2], 'own') or ''
if string.match(owner, '^([^|]*)|') == ARGV[2] then return 0 end
redis.call('SREM', KEYS[1], ARGV[1])
return 1
