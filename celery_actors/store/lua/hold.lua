-- Add ties: who keeps which actor or value alive (see let_go for their form).
-- Keys as in let_go, and per holder: gone (STRING, set when its session is over)
-- ARGV 1 key prefix  2 prefix of results  3 seconds for what a session leaves behind  4.. ties
-- Returns the number added. Idempotent: a tie that is there is added again without effect.
-- Of a session that is over counts only what its calls refer to, and its results that somebody
-- else holds; their values stay for a time.
--@include when_full
local prefix = ARGV[1]
local added = 0
for i = 4, #ARGV do
  local thing, token = string.match(ARGV[i], '^(%S+) (%S+)$')
  local kind, holder, name = string.match(token, '^(%a):([^:]*):(.*)$')
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
  elseif known and (kind == 'm' and not actor
      or kind == 'o' and redis.call('EXISTS', prefix .. ':tok:' .. name) == 1) then
    redis.call('SADD', tokens, token)
    if not actor then redis.call('EXPIRE', tokens, ARGV[3]) end
    added = added + 1
  end
end
return added
