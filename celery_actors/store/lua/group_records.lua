-- Read several placement groups in one round trip.
-- KEYS none
-- ARGV 1 prefix of group keys  2.. ids
-- Returns the record of each as a flat list, empty where it is not known. Only reads.
local records = {}
for i = 2, #ARGV do records[i - 1] = redis.call('HGETALL', ARGV[1] .. ARGV[i]) end
return records
