-- Drop ties: what nobody holds any more ends (see let_go for ties and their keys).
-- ARGV 1 key prefix  2 prefix of results  3 seconds to remember dead actors  4.. ties
-- Returns the records of freed values that may have buffers beside them.
-- Idempotent: a tie that is gone is dropped again without effect.
local prefix, results, remember = ARGV[1], ARGV[2], ARGV[3]
--@include let_go
for i = 4, #ARGV do let_go(ARGV[i]) end
return freed
