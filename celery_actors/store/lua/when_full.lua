-- Included by the scripts that must pass where the store is full: they settle, answer and free, so
-- that it empties again. A server refuses a script at its first command that may need memory, unless
-- the script has written before; this one writes, and changes nothing. Not `#!lua flags=allow-oom`:
-- a server before 7.0 cannot read that. The key is under our prefixes, for a user who may use no other.
do
  local key = KEYS[1] or ARGV[1]
  redis.call('DEL', (key ~= '' and key or 'celery-task-meta-') .. ':')
end
