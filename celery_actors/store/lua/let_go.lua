-- Included by the scripts that drop ties. A tie is "<thing> <token>": an actor, as
-- "<queue>|<actor id>", or a value, by its id; and who keeps it alive, as "<kind>:<holder>:<rest>".
-- `prefix`, `results`, `remember` come before: prefixes of keys and of results, seconds for which
-- a dead actor is remembered. The keys follow from the thing: tokens (SET), the actor's meta (HASH)
-- and queue (LIST) or the value's result (STRING); and from the holder: held (SET of ties).
-- An actor that nobody holds gets its last message; one that is dead frees its name. A value that
-- nobody holds is removed with the ties of what it contains; its record goes to `freed`, where it
-- has buffers beside it.
--@include rouse
local freed = {}
local function end_actor(base, queue, actor)
  local meta = redis.call('HMGET', base .. ':m', 'st', 'bye', 'keeps', 'name')
  if meta[3] then
    if redis.call('HGET', prefix .. ':names', meta[4]) == actor then
      redis.call('HDEL', prefix .. ':names', meta[4])
    end
    redis.call('HDEL', base .. ':m', 'keeps')
    redis.call('EXPIRE', base .. ':m', remember)
  elseif meta[2] and meta[1] ~= 'dead' and meta[1] ~= 'buried' then
    redis.call('HDEL', base .. ':m', 'bye')
    redis.call('LPUSH', queue, meta[2])
    if meta[1] == 'passive' then rouse(base .. ':m') end
  end
end
local function let_go(first)
  local ties = {first}
  while #ties > 0 do
    local tie = table.remove(ties)
    local thing, token = string.match(tie, '^(%S+) (%S+)$')
    local holder = token and string.match(token, '^%a:([^:]*):')
    if holder then redis.call('SREM', prefix .. ':held:' .. holder, tie) end
    local queue, actor = string.match(thing or '', '^(.+)|(.+)$')
    if actor then
      local base = prefix .. ':{' .. queue .. '}:' .. actor
      redis.call('SREM', base .. ':t', token)
      if redis.call('EXISTS', base .. ':t') == 0 then end_actor(base, queue, actor) end
    elseif thing then
      redis.call('SREM', prefix .. ':tok:' .. thing, token)
      local record = redis.call('EXISTS', prefix .. ':tok:' .. thing) == 0
        and redis.call('GET', results .. thing)
      if record then
        redis.call('UNLINK', results .. thing)
        local inside = string.match(record, '^{"ca":{"h":(%[[^%]]*%])')
        local readable, inner = pcall(cjson.decode, inside or '[]')
        for _, one in ipairs(readable and inner or {}) do ties[#ties + 1] = one end
        if string.find(record, '"__type__"', 1, true) then freed[#freed + 1] = record end
      end
    end
  end
end
