-- Cancel a call that no worker has fetched; leave a mark for one that a worker may have.
-- KEYS 1 queue (LIST)   2 meta of its actor (HASH) or '' (shared queue)   3 the mark
-- ARGV 1 call id  2 seconds the mark lasts; 0: leave none  3 result lifetime  4.. result (see post_results)
-- Returns its message: it never runs; or '' not waiting here: a worker has it, or it is over.
-- The oldest calls of an actor's queue, up to 'go' and always the first, may have been peeked at. Those
-- of an actor that has ended stay where they are: somebody answers them, by their number.
--@include when_full
--@include post_results
local wanted = '"id":"' .. ARGV[1] .. '"'
local list = redis.call('LRANGE', KEYS[1], 0, -1)
local fetched = 0
if KEYS[2] ~= '' then
  local meta = redis.call('HMGET', KEYS[2], 'ap', 'go', 'st', 'concurrent')
  if meta[3] == 'dead' or meta[3] == 'frozen' then
    fetched = #list
  elseif meta[3] == 'alive' and meta[4] ~= '1' then
    fetched = math.max(1, tonumber(meta[2] or '0') - tonumber(meta[1] or '0'))
  end
end
for i = 1, #list - fetched do
  if string.find(list[i], wanted, 1, true) then
    redis.call('LREM', KEYS[1], 1, list[i])
    redis.call('DEL', KEYS[3])
    post_results(4, 1, ARGV[3])
    return list[i]
  end
end
if ARGV[2] ~= '0' then redis.call('SET', KEYS[3], '1', 'EX', ARGV[2]) end
return ''
