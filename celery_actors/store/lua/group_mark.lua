-- Included by the scripts that change the line of placement groups, or a group in it. Gives the line
-- a new mark, beside its key, so that nodes see at a glance whether anything is new. The time is
-- that of the script: no two run within a microsecond. An empty line has none.
local function mark(line)
  if redis.call('LLEN', line) == 0 then
    redis.call('DEL', line .. ':mark')
    return
  end
  local time = redis.call('TIME')
  redis.call('SET', line .. ':mark', time[1] .. '.' .. time[2])
end
