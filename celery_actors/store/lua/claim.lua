-- Take the oldest waiting creation from one queue and become the actor's owner, in one step.
-- KEYS 1 creation queue (LIST)   2 what this node run owns (SET)   3 lease of this node run
--      4 dead letters (LIST)   5 what this owner has claimed (STRING "<actor id>|<queue>")
-- ARGV 1 owner "<incarnation>|<nonce>", new for each attempt  2 key prefix of actors
-- Returns {} nothing waits, or {actor id, queue, epoch, spec, meta as a flat list}
-- Idempotent by owner: a repeat within a minute returns the actor that the first run claimed, as
-- long as it is this owner's; then nothing: one that arrives late claims no other.
-- A message that asks for no actor is set aside.
-- Calls that a former owner had moved out of line go back to the front of the queue, in order.
if redis.call('EXISTS', KEYS[3]) == 0 then return {} end
local function base_of(actor, queue) return ARGV[2] .. ':{' .. queue .. '}:' .. actor end
local function claimed(actor, queue)
  local base = base_of(actor, queue)
  return {actor, queue, redis.call('HGET', base .. ':m', 'ep'),
    redis.call('GET', base .. ':s') or '', redis.call('HGETALL', base .. ':m')}
end
local before = redis.call('GET', KEYS[5])
if before then
  local actor, queue = string.match(before, '^([^|]+)|(.+)$')
  if redis.call('HGET', base_of(actor, queue) .. ':m', 'own') == ARGV[1] then
    return claimed(actor, queue)
  end
  return {}
end
while true do
  local message = redis.call('RPOP', KEYS[1])
  if not message then return {} end
  local read, envelope = pcall(cjson.decode, message)
  local headers = read and type(envelope) == 'table' and envelope['headers']
  local actor = type(headers) == 'table' and headers['ca_create']
  local base, meta = '', {}
  if type(actor) == 'table' and actor[2] then
    base = base_of(actor[1], actor[2])
    meta = redis.call('HMGET', base .. ':m', 'st', 'ep', 'own', 'ap')
  else
    redis.call('LPUSH', KEYS[4], cjson.encode({queue = KEYS[1], message = message,
      reason = 'this is no creation of an actor'}))
    redis.call('LTRIM', KEYS[4], 0, 999)
  end
  if (meta[1] == 'pending' or meta[1] == 'restarting') and meta[3] == '' then
    local now = redis.call('TIME')
    local epoch = math.max(tonumber(meta[2]) + 1, now[1] * 1000 + math.floor(now[2] / 1000))
    local parked = redis.call('HKEYS', base .. ':p')
    table.sort(parked, function(a, b) return tonumber(a) > tonumber(b) end)
    for _, position in ipairs(parked) do
      redis.call('RPUSH', actor[2], redis.call('HGET', base .. ':p', position))
    end
    redis.call('DEL', base .. ':p', base .. ':b')
    local ap = tonumber(meta[4]) - #parked
    redis.call('HSET', base .. ':m', 'st', 'starting', 'ep', string.format('%.0f', epoch),
      'own', ARGV[1], 'ap', ap, 'go', ap)
    redis.call('SADD', KEYS[2], actor[1])
    redis.call('SET', KEYS[5], actor[1] .. '|' .. actor[2], 'EX', 60)
    return claimed(actor[1], actor[2])
  end
end
