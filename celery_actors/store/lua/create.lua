-- Create an actor: its record, its name, its place in the creation queue.
-- KEYS 1 meta (HASH)  2 spec (STRING)  3 names (HASH)  4 creation queue (LIST)  5 job (SET)
--      or ''  6 actors (HASH)  7 bell (channel)  8 needs (HASH)  9 tokens (SET)
--      10 what the creator's session holds (SET)  11 what ends with its creator (SET) or ''
--      12 set when the creator's session is over
-- ARGV 1 actor id  2 queue  3 name field or ''  4 spec  5 creation message  6 need label
--      7 need as JSON  8 the creator's tie (see let_go) or '': not counted  9.. pairs for meta
-- Returns {0} or {-1, actor id that holds the name}. Idempotent by actor id.
if redis.call('EXISTS', KEYS[1]) == 1 then return {0} end
if ARGV[3] ~= '' then
  local taken = redis.call('HGET', KEYS[3], ARGV[3])
  if taken then return {-1, taken} end
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[1])
end
redis.call('HSET', KEYS[1], 'st', 'pending', 'ep', 0, 'own', '', 'ap', 0, 'go', 0, 'restarts', 0,
  'need', ARGV[6], 'needs', ARGV[7], 'queue', ARGV[2], 'name', ARGV[3], unpack(ARGV, 9))
redis.call('SET', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[6], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[8], ARGV[6], ARGV[7])
if KEYS[5] ~= '' then redis.call('SADD', KEYS[5], ARGV[1]) end
if KEYS[11] ~= '' then redis.call('SADD', KEYS[11], ARGV[1]) end
if ARGV[8] ~= '' and redis.call('EXISTS', KEYS[12]) == 0 then
  redis.call('SADD', KEYS[9], string.match(ARGV[8], ' (%S+)$'))
  redis.call('SADD', KEYS[10], ARGV[8])
end
redis.call('LPUSH', KEYS[4], ARGV[5])
redis.call('PUBLISH', KEYS[7], ARGV[6])
return {0}
