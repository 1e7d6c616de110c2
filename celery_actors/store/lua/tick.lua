-- A node's heartbeat: renew its lease, list what needs attention.
-- KEYS 1 lease  2 nodes (HASH)  3 kills (SET)  4 sessions (ZSET)
--      5 dying: ended and not settled (HASH actor id -> queue)  6 set when this node run is over
-- ARGV 1 incarnation  2 lease in milliseconds  3 description or '' where it is the same  4 '1' this is the first tick
--      5 prefix of lease keys
-- Returns {alive, actors to kill, dead node runs, expired sessions, the dying as a flat list};
-- alive 0: another node takes over this run's actors, or has (its entry in nodes is gone), so it must
-- end its processes.
--@include when_full
local known = ARGV[4] == '1' or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1
if not known or redis.call('EXISTS', KEYS[6]) == 1 then return {0, {}, {}, {}, {}} end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
local dead = {}
for _, incarnation in ipairs(redis.call('HKEYS', KEYS[2])) do
  if redis.call('EXISTS', ARGV[5] .. incarnation) == 0 then dead[#dead + 1] = incarnation end
end
local now = redis.call('TIME')
local expired = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf',
  '(' .. string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)), 'LIMIT', 0, 100)
return {1, redis.call('SMEMBERS', KEYS[3]), dead, expired, redis.call('HGETALL', KEYS[5])}
