-- Let any node take what waits for one: move it, in order, behind what waits under another need.
-- KEYS 1 creation queue  2 shared queue  3 the other creation queue  4 the other shared queue
--      5 needs (HASH)  6 bell
-- ARGV 1 label of the need that is left  2 label of the other  3 the other as JSON
--      4 key prefix of actors  5 calls to move at most
-- Returns the number moved. Idempotent: a second run finds nothing.
--@include when_full
if KEYS[1] == KEYS[3] then return 0 end
local moved = 0
while true do
  local message = redis.call('LMOVE', KEYS[1], KEYS[3], 'RIGHT', 'LEFT')
  if not message then break end
  local read, envelope = pcall(cjson.decode, message)
  local headers = read and type(envelope) == 'table' and envelope['headers']
  local actor = type(headers) == 'table' and headers['ca_create']
  if type(actor) == 'table' and actor[2] then  -- else a plain client has sent something here
    local meta = ARGV[4] .. ':{' .. actor[2] .. '}:' .. actor[1] .. ':m'
    if redis.call('EXISTS', meta) == 1 then
      redis.call('HSET', meta, 'need', ARGV[2], 'needs', ARGV[3])
    end
  end
  moved = moved + 1
end
for _ = 1, tonumber(ARGV[5]) do
  if not redis.call('LMOVE', KEYS[2], KEYS[4], 'RIGHT', 'LEFT') then break end
  moved = moved + 1
end
if moved > 0 then
  redis.call('HSET', KEYS[5], ARGV[2], ARGV[3])
  redis.call('PUBLISH', KEYS[6], ARGV[2])
end
return moved
