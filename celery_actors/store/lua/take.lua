-- Settle calls that are out of line, and move the oldest waiting calls out of line.
-- KEYS 1 mailbox (LIST)   2 meta (HASH)   3 out of line (HASH position -> message)
--      4 begun (SET of positions out of line whose calls may have started)
-- ARGV 1 epoch  2 owner  3 position of the next call  4 calls wanted  5 result lifetime
--      6 number of calls to settle  7.. their positions, then their results (see post_results),
--      then what they leave, as in commit
-- Returns {0, messages oldest first, calls left in the mailbox, records as in commit}
--         {-10} fenced   {-11, ap} the store's position is not ours (rolled back)
-- Idempotent: a settled position is gone; a repeated move returns what the first one moved.
--@include post_results
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'ap')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return {-10} end
local ap, from, want = tonumber(meta[3] or '0'), tonumber(ARGV[3]), tonumber(ARGV[4])
if want > 0 and ap < from then return {-11, ap} end
local taken = {}
if want > 0 and ap > from then
  for position = from, math.min(ap, from + want) - 1 do
    local message = redis.call('HGET', KEYS[3], string.format('%.0f', position))
    if not message then return {-11, ap} end
    taken[#taken + 1] = message
  end
end
local settled = tonumber(ARGV[6])
for i = 1, settled do
  local position = ARGV[6 + i]
  if redis.call('HDEL', KEYS[3], position) == 1 then
    redis.call('SREM', KEYS[4], position)
  else
    ARGV[7 + settled + 3 * (i - 1)] = ''
  end
end
if settled > 0 then post_results(7 + settled, settled, ARGV[5]) end
local after, dropped = 7 + 4 * settled, nil
if ARGV[after] then
  local prefix, results, remember = ARGV[after], ARGV[after + 1], ARGV[after + 2]
--@include let_go
  for i = after + 3, #ARGV do let_go(ARGV[i]) end
  dropped = freed
end
if want > 0 and ap == from then
  while #taken < want do
    local message = redis.call('RPOP', KEYS[1])
    if not message then break end
    redis.call('HSET', KEYS[3], string.format('%.0f', from + #taken), message)
    taken[#taken + 1] = message
  end
  if #taken > 0 then redis.call('HSET', KEYS[2], 'ap', string.format('%.0f', from + #taken)) end
end
return {0, taken, redis.call('LLEN', KEYS[1]), dropped}
