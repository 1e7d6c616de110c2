-- Tell a driver what one of its workers printed, and keep it for whoever asks later.
-- KEYS 1 log (STREAM of batches)  2 meta of the actor, or '' for the log of a node run
-- ARGV 1 channel of the driver, or ''  2 the batch  3 the batch to keep, where it is a shorter one,
--      else ''  4 its lines  5 its bytes  6 lines and  7 bytes to keep at least
--      8 seconds to keep what belongs to no living actor
-- Each entry says how many lines (n) and bytes (s) there have been up to its end. An actor's log has
-- no end of its own while the actor lives (see bury). An actor nobody remembers has no log.
-- Returns 1, or 0 where nothing was kept. Run twice it tells and keeps twice.
if ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
local ends = true
if KEYS[2] ~= '' then
  local state = redis.call('HGET', KEYS[2], 'st')
  if not state then return 0 end
  ends = state == 'buried'
end
local lines, bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then lines, bytes = lines + newest[2][4], bytes + newest[2][6] end
redis.call('XADD', KEYS[1], '*', 'b', ARGV[3] ~= '' and ARGV[3] or ARGV[2],
  'n', string.format('%.0f', lines), 's', string.format('%.0f', bytes))
while true do
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if lines - oldest[2][4] < tonumber(ARGV[6]) and bytes - oldest[2][6] < tonumber(ARGV[7]) then
    break
  end
  redis.call('XDEL', KEYS[1], oldest[1])
end
if ends then redis.call('EXPIRE', KEYS[1], ARGV[8]) end
return 1
