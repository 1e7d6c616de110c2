-- Included by the scripts that wake an actor without a process, passive or frozen: it is asked one for.
-- The other keys follow from its meta, "<prefix>:{<queue>}:<actor id>:m" (HASH): passive actors (SET),
-- creation queue (LIST), needs (HASH), bell. The message is the one of directory.creation_message, byte
-- by byte (a test compares them): kept with each actor it would be the largest part of a passive one.
local function rouse(key)
  local prefix, queue, actor = string.match(key, '^([^:]+):{(.*)}:([^:]+):m$')
  local meta = redis.call('HMGET', key, 'class', 'need', 'needs')
  local message = string.gsub('{"body": "[[],{},{\\"callbacks\\":null,\\"errbacks\\":null,\\"chain\\":null,'
    .. '\\"chord\\":null}]", "content-encoding": "utf-8", "content-type": "application/json", "headers": '
    .. '{"lang": "py", "task": "$class.__init__", "id": "$actor", "ca_create": ["$actor", "$queue"]}, '
    .. '"properties": {"delivery_mode": 2, "priority": 0, "correlation_id": "$actor", '
    .. '"delivery_tag": "$actor", "delivery_info": {"exchange": "", "routing_key": "$queue"}}}',
    '%$(%a+)', {class = meta[1], actor = actor, queue = queue})
  redis.call('HSET', key, 'st', 'restarting')
  redis.call('SREM', prefix .. ':passive', actor)
  redis.call('LPUSH', prefix .. '.create.' .. meta[2], message)
  redis.call('HSET', prefix .. ':needs', meta[2], meta[3])
  redis.call('PUBLISH', prefix .. ':bell', meta[2])
end
