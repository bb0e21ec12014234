-- Unlinks records of a generation that was cleared. ARGV[3]: the generation; ARGV[4]: how many ids
-- follow; then the ids, and the names of their indexes. Forgets the generation after the last one.
local old = ARGV[3]
if old == generation then
  return 0
end
local within, last = base .. old .. ':', 4 + tonumber(ARGV[4])
for i = 5, last do
  redis.call('UNLINK', within .. 'token:' .. ARGV[i], within .. 'cell:id:' .. ARGV[i])
end
for i = last + 1, #ARGV do
  redis.call('UNLINK', within .. ARGV[i])
end
for i = 5, last do
  redis.call('ZREM', within .. 'ids', ARGV[i])
end
if redis.call('ZCARD', within .. 'ids') == 0 then
  redis.call('SREM', base .. 'cleared', old)
end
return 1
