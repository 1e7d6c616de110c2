-- An actor's process is gone: settle or return the calls that had started, then restart it or
-- declare it dead. Only for the (epoch, owner) that held it.
-- KEYS 1 mailbox  2 meta  3 out of line  4 what the node run owns (SET)  5 creation queue  6 bell
--      7 begun (SET)  8 needs (HASH)  9 dying: ended and not settled (HASH actor id -> queue)
-- ARGV 1 epoch  2 owner  3 position  4 calls to take from the mailbox (the oldest)
--      5 '1' it restarts, 'move' it restarts and no restart is used up, 'frozen' it stands still from
--      now on, '' it is dead  6 cause
--      7 '1' __init__ raised  8 creation message  9 need label  10 actor id  11 result lifetime
--      12 number of results  13 number of messages to put back  14 number of positions out of line
--      15 'go' and  16 'st' of meta  17 begun, sorted as text, with blanks between, or '*' where any
--      of those out of line may have begun  18 the oldest and  19 the newest of the calls to take
--      20.. results (see post_results); then the messages to put back, newest first; then pairs of
--      position out of line and its message for the next run, or '' to drop it
-- Returns 'restarting', 'frozen', 'dead', or -10 fenced / -11 moved on: the process still lived, words
-- of it were still on their way or a call was cancelled, so all that is to be looked at again.
--@include when_full
--@include post_results
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'ap', 'restarts', 'needs', 'go', 'st')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return -10 end
local pos, taken = tonumber(ARGV[3]), tonumber(ARGV[4])
if tonumber(meta[3]) ~= pos or meta[6] ~= ARGV[15] or meta[7] ~= ARGV[16] then return -11 end
if ARGV[17] ~= '*' then
  local begun = redis.call('SMEMBERS', KEYS[7])
  table.sort(begun)
  if table.concat(begun, ' ') ~= ARGV[17] then return -11 end
end
if taken > 0 and (redis.call('LINDEX', KEYS[1], -1) ~= ARGV[18]
    or redis.call('LINDEX', KEYS[1], -taken) ~= ARGV[19]) then return -11 end
local results, back, aside = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local first = 20 + 3 * results + back
for i = first, first + 2 * aside - 1, 2 do
  if redis.call('HEXISTS', KEYS[3], ARGV[i]) == 0 then return -11 end
end
if taken > 0 then redis.call('LTRIM', KEYS[1], 0, -taken - 1) end
for i = first - back, first - 1 do redis.call('RPUSH', KEYS[1], ARGV[i]) end
for i = first, first + 2 * aside - 1, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[3], ARGV[i])
  else
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  end
end
redis.call('DEL', KEYS[7])
post_results(20, results, ARGV[11])
redis.call('SREM', KEYS[4], ARGV[10])
local ap = string.format('%.0f', pos + taken - back)
if ARGV[5] == '1' or ARGV[5] == 'move' then
  if ARGV[5] == 'move' then redis.call('HINCRBY', KEYS[2], 'moves', 1) end
  redis.call('HSET', KEYS[2], 'st', 'restarting', 'own', '', 'ap', ap,
    'restarts', tonumber(meta[4]) + 1, 'cause', ARGV[6])
  redis.call('LPUSH', KEYS[5], ARGV[8])
  redis.call('HSET', KEYS[8], ARGV[9], meta[5])
  redis.call('PUBLISH', KEYS[6], ARGV[9])
  return 'restarting'
end
local state = ARGV[5] == 'frozen' and 'frozen' or 'dead'
redis.call('HSET', KEYS[2], 'st', state, 'own', '@reaper', 'ap', ap,
  'ep', string.format('%.0f', tonumber(meta[1]) + 1), 'cause', ARGV[6], 'init_failed', ARGV[7])
redis.call('HSET', KEYS[9], ARGV[10], KEYS[1])
return state
