-- An actor's process is gone: settle the calls that had started, then restart it or declare it
-- dead. Only for the (epoch, owner) that held it.
-- KEYS 1 mailbox  2 meta  3 parked  4 what the node run owns (SET)  5 creation queue  6 bell
-- ARGV 1 epoch  2 owner  3 position  4 calls settled  5 '1' a restart is allowed  6 cause
--      7 '1' __init__ raised  8 creation message  9 need label  10 actor id
--      11 position of a parked call that had started, or ''  12 result lifetime
--      13.. results: first the parked call's, if any, then the settled calls'
-- Returns 'restarting', 'dead', or -10 fenced / -11 moved on.
--@include post_results
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'ap', 'restarts')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
local pos, settled = tonumber(ARGV[3]), tonumber(ARGV[4])
if tonumber(meta[3]) ~= pos then return -11 end
local count = settled
if ARGV[11] ~= '' then
  count = count + 1
  redis.call('HDEL', KEYS[3], ARGV[11])
end
if settled > 0 then redis.call('LTRIM', KEYS[1], 0, -settled - 1) end
post_results(13, count, ARGV[12])
redis.call('SREM', KEYS[4], ARGV[10])
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[2], 'st', 'restarting', 'own', '', 'ap', pos + settled,
    'restarts', tonumber(meta[4]) + 1, 'cause', ARGV[6])
  redis.call('LPUSH', KEYS[5], ARGV[8])
  redis.call('PUBLISH', KEYS[6], ARGV[9])
  return 'restarting'
end
redis.call('HSET', KEYS[2], 'st', 'dead', 'own', '@reaper', 'ap', pos + settled,
  'ep', string.format('%.0f', tonumber(meta[1]) + 1), 'cause', ARGV[6], 'init_failed', ARGV[7])
return 'dead'
