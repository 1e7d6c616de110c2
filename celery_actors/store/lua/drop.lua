-- Drop ties: what nobody holds any more ends (see let_go for keys, ties and ARGV 1 to 3).
-- ARGV 4.. ties
-- Returns the records of freed values that may have buffers beside them.
-- Idempotent: a tie that is gone is dropped again without effect.
--@include let_go
for i = 4, #ARGV do let_go(ARGV[i]) end
return freed
