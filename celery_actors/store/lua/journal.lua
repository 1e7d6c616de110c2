-- Part of a durable actor's commit: note the calls that it settles, so that they can run again.
-- KEYS 1 journal (LIST, oldest first)   ARGV 1 '1' forget what came before: the state holds it
--      2.. entries
-- Returns the number of entries.
--@include push
if ARGV[1] == '1' then redis.call('UNLINK', KEYS[1]) end
push('RPUSH', KEYS[1], ARGV, 2)
return redis.call('LLEN', KEYS[1])
