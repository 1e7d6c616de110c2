-- Accept calls of one caller to one actor, in order, each once.
-- KEYS 1 actor queue (LIST, next call at the right end)   2 actor meta (HASH)
--      3 callers (HASH caller -> last accepted sequence)
-- ARGV 1 caller  2 sequence of the first message  3 the accepted sequence that it follows: the one
--      before it, or an earlier one where those between have failed  4.. messages, sequence by
--      sequence
-- Returns {0, queue length}  {-1} no such actor  {-2, cause, init failed} dead or frozen
--         {-3, last} calls before the first message were not accepted, or are lost
-- Idempotent: messages up to the last accepted sequence are skipped.
-- A passive actor is asked a process for, by what rouse reads from its meta.
--@include push
--@include rouse
local meta = redis.call('HMGET', KEYS[2], 'st', 'cause', 'init_failed')
if not meta[1] then return {-1} end
local first, after, count = tonumber(ARGV[2]), tonumber(ARGV[3]), #ARGV - 3
local last = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0')
if meta[1] == 'frozen' then
  -- Refused, and the sequence goes on: the actor may live again.
  redis.call('HSET', KEYS[3], ARGV[1], math.max(last, first + count - 1))
  return {-2, meta[2], meta[3]}
end
if last >= first + count - 1 then return {0, redis.call('LLEN', KEYS[1])} end
if meta[1] == 'dead' or meta[1] == 'buried' then return {-2, meta[2] or '', meta[3] or ''} end
if last < after then return {-3, last} end
local length = push('LPUSH', KEYS[1], ARGV, 4 + math.max(0, last - first + 1))
redis.call('HSET', KEYS[3], ARGV[1], first + count - 1)
if meta[1] == 'passive' then rouse(KEYS[2]) end
return {0, length}
