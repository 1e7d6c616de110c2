-- Add ties: who keeps which actor or value alive (see let_go for their form).
-- Keys as in let_go, and per holder: gone (STRING, set when its session is over)
-- ARGV 1 key prefix  2 prefix of results  3 seconds for what a session leaves behind  4.. ties
-- Returns the number added. Idempotent: a tie that is there is added again without effect.
-- The values of a session that is over stay for a time; of their own holders none counts.
local prefix = ARGV[1]
local added = 0
for i = 4, #ARGV do
  local thing, token = string.match(ARGV[i], '^(%S+) (%S+)$')
  local kind, holder = string.match(token, '^(%a):([^:]*):')
  local gone = redis.call('EXISTS', prefix .. ':gone:' .. holder) == 1
  local queue, actor = string.match(thing, '^(.+)|(.+)$')
  local tokens = prefix .. ':tok:' .. thing
  local known = true
  if actor then
    local base = prefix .. ':{' .. queue .. '}:' .. actor
    local meta = redis.call('HMGET', base .. ':m', 'st', 'keeps')
    tokens = base .. ':t'
    known = meta[1] and (meta[1] ~= 'buried' or meta[2])
  end
  if known and not gone then
    redis.call('SADD', tokens, token)
    redis.call('SADD', prefix .. ':held:' .. holder, ARGV[i])
    redis.call('PERSIST', tokens)
    if not actor then redis.call('PERSIST', ARGV[2] .. thing) end
    added = added + 1
  elseif gone and not actor and kind ~= 'p' then
    redis.call('SADD', tokens, token)
    redis.call('EXPIRE', tokens, ARGV[3])
    added = added + 1
  end
end
return added
