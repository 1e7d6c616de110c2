-- Included by the scripts that put many words on a list. Returns its length, or nil where there was none.
local function push(command, key, words, from)
  local length
  for i = from, #words, 1000 do  -- Lua's stack bounds what unpack gives
    length = redis.call(command, key, unpack(words, i, math.min(i + 999, #words)))
  end
  return length
end
