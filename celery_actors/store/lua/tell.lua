-- Append words to a list that expires: what one process asks of another that reads it.
-- KEYS 1 list
-- ARGV 1 lifetime in seconds  2.. words
-- Returns the length. Run twice it appends twice: readers take a word they know for done.
--@include when_full
local length = redis.call('RPUSH', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return length
