-- Note that a durable actor lives, and the state that its constructor made, in one step.
-- KEYS 1 meta (HASH)   2 state (STRING)   3 journal (LIST): what the state holds is forgotten there
-- ARGV 1 state, '' where it was loaded from there   2 position: the calls that it has seen
--      3 epoch  4 owner  5.. pairs as in mark
-- Returns 0 or -10 fenced. A repeat that arrives after a call leaves the state as that has made it.
--@include when_full
--@function mark
if mark(KEYS, {unpack(ARGV, 3)}) ~= 0 then return -10 end
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'ap') == ARGV[2] then
  redis.call('SET', KEYS[2], ARGV[1])
  redis.call('UNLINK', KEYS[3])
end
return 0
