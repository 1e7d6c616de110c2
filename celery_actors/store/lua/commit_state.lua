-- Commit calls of a durable actor: its state, their results, its position and what they sent, in one
-- step.
-- KEYS 1..4 those of the inner step, '' for commit's fourth   5 state (STRING)
-- ARGV 1 'commit' or 'take': the inner step   2 state, '' where it did not change
--      3 number of words of the steps that come before it  4.. per step: script, number of keys,
--      keys, number of words, words; then the words of the inner step
-- Returns what the inner step returns, with a fifth member: the replies of the steps
-- Idempotent: a repeat changes no state; calls that a step sends are accepted once.
--@include when_full
local inner, after = {}, 4 + tonumber(ARGV[3])
for i = after, #ARGV do inner[#inner + 1] = ARGV[i] end
local meta = redis.call('HMGET', KEYS[2], 'ep', 'own', 'ap')
if meta[1] ~= inner[1] or meta[2] ~= inner[2] then return {-10} end
local new
if ARGV[1] == 'take' then
  new = redis.call('HEXISTS', KEYS[3], inner[7]) == 1
else
  local ap, pos, settled = tonumber(meta[3]), tonumber(inner[3]), tonumber(inner[4])
  if ap ~= pos and ap ~= pos + settled then return {-11, ap} end
  new = ap == pos and settled > 0
end
if new and ARGV[2] ~= '' then redis.call('SET', KEYS[5], ARGV[2]) end
local replies, at = {}, 4
if at < after then  -- a commit without steps does not pay for them
--@function submit
--@function submit_shared
--@function hold
--@function answer
--@function journal
--@function drop_steps
  local steps = {submit = submit, submit_shared = submit_shared, hold = hold, answer = answer,
    journal = journal, drop_steps = drop_steps}
  while at < after do
    local name, keys, words = ARGV[at], {}, {}
    at = at + 2
    for _ = 1, tonumber(ARGV[at - 1]) do keys[#keys + 1], at = ARGV[at], at + 1 end
    at = at + 1
    for _ = 1, tonumber(ARGV[at - 1]) do words[#words + 1], at = ARGV[at], at + 1 end
    -- A repeat sends again, so that the sender hears what became of it; the rest is done.
    if new or name == 'submit' or name == 'submit_shared' then
      replies[#replies + 1] = steps[name](keys, words)
    else
      replies[#replies + 1] = 0
    end
  end
end
local reply
if ARGV[1] == 'take' then
--@function take
  reply = take(KEYS, inner)
else
--@function commit
  reply = commit(KEYS, inner)
end
reply[4] = reply[4] or {}
reply[5] = replies
return reply
