-- Settle the oldest calls of a mailbox and fetch the next ones, if the caller still owns it.
-- KEYS 1 mailbox (LIST)   2 meta (HASH: ep, own, ap = calls settled or moved out so far,
--      go = position up to which calls may have started)   3 source queue or '' (shared worker)
-- ARGV 1 epoch  2 owner  3 position before this commit  4 calls settled  5 calls wanted
--      6 result lifetime in seconds  7.. results (see post_results), then, where the calls leave
--      ties: prefix, prefix of results, seconds to remember dead actors, ties (see let_go)
-- Returns {0, messages oldest first, calls left to fetch where none were wanted, records of freed
--         values where ties were dropped}
--         {1, ...} likewise: somebody else has taken calls off the queue
--         {-10} fenced: someone else owns it
--         {-11, ap} the store's position is not ours (rolled back)
-- Idempotent: a repeated commit finds ap already moved and only fetches.
--@include post_results
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'ap')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return {-10} end
local ap, pos, settled = tonumber(meta[3] or '0'), tonumber(ARGV[3]), tonumber(ARGV[4])
if ap ~= pos and ap ~= pos + settled then return {-11, ap} end
local stolen = 0
if ap == pos and settled > 0 then
  -- A stray consumer takes the oldest call, and would have the next one trimmed in its place. What
  -- it took is settled all the same: it has run here.
  local function is_oldest(number)
    local key = ARGV[7 + 3 * number]
    local oldest = redis.call('LINDEX', KEYS[1], -1)
    return oldest and (key == '' or string.find(oldest, string.sub(key, 18), 1, true))
  end
  if is_oldest(0) then
    redis.call('LTRIM', KEYS[1], 0, -settled - 1)  -- frees: what follows passes where the store is full
  else
    stolen = 1
    for number = 0, settled - 1 do
      if is_oldest(number) then redis.call('RPOP', KEYS[1]) end
    end
  end
  redis.call('HSET', KEYS[2], 'ap', pos + settled)
  post_results(7, settled, ARGV[6])
else
--@include when_full
end
local after, dropped = 7 + 3 * settled, nil
if ARGV[after] then
  local prefix, results, remember = ARGV[after], ARGV[after + 1], ARGV[after + 2]
--@include let_go
  for i = after + 3, #ARGV do let_go(ARGV[i]) end
  dropped = freed
end
local want = tonumber(ARGV[5])
if want == 0 then
  return {stolen, {}, redis.call('LLEN', KEYS[3] ~= '' and KEYS[3] or KEYS[1]), dropped}
end
if KEYS[3] ~= '' then
  for _ = 1, want do
    if not redis.call('LMOVE', KEYS[3], KEYS[1], 'RIGHT', 'LEFT') then break end
  end
end
local list = redis.call('LRANGE', KEYS[1], -want, -1)
local count = #list
if count == 0 then return {stolen, list, 0, dropped} end
redis.call('HSET', KEYS[2], 'go', pos + settled + count)
for i = 1, math.floor(count / 2) do
  list[i], list[count + 1 - i] = list[count + 1 - i], list[i]
end
return {stolen, list, count, dropped}
