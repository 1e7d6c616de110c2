-- A session is over: drop its ties, a number of them at a time (see let_go for ties and keys).
-- KEYS by the session: held (SET of ties), gone (STRING)
-- ARGV 1 key prefix  2 prefix of results  3 seconds to remember dead actors  4 session
--      5 seconds for which the values it leaves in messages and results stay
--      6 seconds for which it is known to be gone  7 ties at a time
-- Returns {ties left, records of freed values that may have buffers beside them}.
-- What its waiting calls refer to outlives it for a time: they may still run. Its results go, with
-- what they contain, but for those that somebody else holds.
--@include when_full
local prefix, results, remember = ARGV[1], ARGV[2], ARGV[3]
--@include let_go
local session = ARGV[4]
local held = prefix .. ':held:' .. session
redis.call('SET', prefix .. ':gone:' .. session, '1', 'EX', ARGV[6])
for _, tie in ipairs(redis.call('SRANDMEMBER', held, ARGV[7])) do
  local thing, kind, name = string.match(tie, '^(%S+) (%a):[^:]*:(.*)$')
  local lasts = kind == 'm' and not string.find(thing, '|', 1, true)
  if kind == 'o' then
    lasts = redis.call('EXISTS', prefix .. ':tok:' .. name) == 1
    if not lasts then let_go(name .. ' -') end
  end
  if lasts then
    redis.call('SREM', held, tie)
    redis.call('EXPIRE', prefix .. ':tok:' .. thing, ARGV[5])
    redis.call('EXPIRE', results .. thing, ARGV[5])
  else
    let_go(tie)
  end
end
return {redis.call('SCARD', held), freed}
