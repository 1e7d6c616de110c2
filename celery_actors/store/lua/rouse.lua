-- Included by the scripts that put calls on an actor's queue: a passive actor is asked a process for.
-- The other keys follow from its meta, "<prefix>:{<queue>}:<actor id>:m" (HASH): passive actors (SET),
-- creation queue (LIST), needs (HASH), bell. `creation`, its creation message, is there as long as it
-- is passive.
local function rouse(key)
  local prefix, actor = string.match(key, '^([^:]+):{.*}:([^:]+):m$')
  local meta = redis.call('HMGET', key, 'creation', 'need', 'needs')
  redis.call('HSET', key, 'st', 'restarting')
  redis.call('HDEL', key, 'creation')
  redis.call('SREM', prefix .. ':passive', actor)
  redis.call('LPUSH', prefix .. '.create.' .. meta[2], meta[1])
  redis.call('HSET', prefix .. ':needs', meta[2], meta[3])
  redis.call('PUBLISH', prefix .. ':bell', meta[2])
end
