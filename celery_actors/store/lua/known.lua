-- How far a caller's calls have come, as the store knows it: after a reconnect it may know less.
-- KEYS 1 meta of the actor or '' (shared queue)   2 callers (HASH caller or queue -> last accepted)
-- ARGV 1 caller, or shared queue
-- Returns {state of the actor or '', last accepted sequence}. Only reads.
local state = KEYS[1] ~= '' and redis.call('HGET', KEYS[1], 'st') or ''
return {state, tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')}
