-- Put the calls of due reminders on the queues of their actors, and set when each is due next.
-- KEYS 1 due times (ZSET "<queue>|<actor id>|<name>" -> milliseconds by this server's clock)
-- ARGV 1 key prefix  2 reminders at most
-- The other keys follow from the member: the actor's meta (HASH), queue (LIST) and reminders (HASH
-- name -> "<milliseconds between two, 0: once> <calls so far> <id> <call>"). The id stands in the call;
-- in its place comes the same with the number of the call as its last 12 hexadecimal digits.
-- Returns the number that were due. Times that were missed count as one. Whoever comes second finds
-- nothing due, so every node may try.
--@include rouse
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local members = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%.0f', now), 'BYSCORE',
  'LIMIT', 0, ARGV[2], 'WITHSCORES')
for i = 1, #members, 2 do
  local queue, actor, name = string.match(members[i], '^([^|]*)|([^|]*)|(.*)$')
  local base = ARGV[1] .. ':{' .. (queue or '') .. '}:' .. (actor or '')
  local state = redis.call('HGET', base .. ':m', 'st')
  local reminder = name and redis.call('HGET', base .. ':r', name)
  local every, count, id, call = string.match(reminder or '', '^(%d+) (%d+) (%S+) (.*)$')
  if not every or not state or state == 'dead' or state == 'buried' then
    every = '0'
  elseif state ~= 'frozen' then
    count = count + 1
    local own = string.sub(id, 1, -13) .. string.format('%012x', count)
    redis.call('LPUSH', queue, (string.gsub(call, string.gsub(id, '%-', '%%-'), own)))
    if state == 'passive' then rouse(base .. ':m') end
  end
  if every == '0' then
    redis.call('ZREM', KEYS[1], members[i])
    if name then redis.call('HDEL', base .. ':r', name) end
  else
    local due, step = tonumber(members[i + 1]), tonumber(every)
    due = due + step * (math.floor((now - due) / step) + 1)
    redis.call('ZADD', KEYS[1], string.format('%.0f', due), members[i])
    redis.call('HSET', base .. ':r', name, table.concat({every, string.format('%.0f', count), id, call}, ' '))
  end
end
return #members / 2
