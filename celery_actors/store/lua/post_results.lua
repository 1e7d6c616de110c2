-- Included by the scripts that settle calls. Stores `count` results and tells who waits.
-- At ARGV[from]: per call three values: result key, Celery result record, reply channel
-- (empty: nobody's). Records of one channel travel as one JSON array, the record itself also on
-- the channel named like its key, where Celery's AsyncResult and holders of a passed ref listen.
-- A record above 64 KiB is announced only: {"status":"STORED"}, so that no subscriber's output
-- buffer overflows; its id is the key behind "celery-task-meta-".
local function post_results(from, count, ttl)
  local by_channel, order = {}, {}
  for i = 0, count - 1 do
    local key, record = ARGV[from + 3 * i], ARGV[from + 3 * i + 1]
    local channel = ARGV[from + 3 * i + 2]
    if key ~= '' then
      redis.call('SET', key, record, 'EX', ttl)
      redis.call('PUBLISH', key, record)
      if channel ~= '' then
        if #record > 65536 then
          record = '{"status":"STORED","task_id":"' .. string.sub(key, 18) .. '"}'
        end
        local list = by_channel[channel]
        if list then
          list[#list + 1] = record
        else
          by_channel[channel] = {record}
          order[#order + 1] = channel
        end
      end
    end
  end
  for _, channel in ipairs(order) do
    redis.call('PUBLISH', channel, '[' .. table.concat(by_channel[channel], ',') .. ']')
  end
end
