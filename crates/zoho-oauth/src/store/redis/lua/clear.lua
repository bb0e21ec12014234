-- Deletes all records, by going on to the next generation, in which there are none yet. Answers how
-- many there were. The old keys are left to be unlinked bit by bit.
--
-- ARGV[3]: a name for this call: sent again it answers the same. ARGV[4]: the generation when the
-- call began. ARGV[5]: the channel.
local last = redis.call('HMGET', meta, 'cleared_by', 'cleared')
if last[1] == ARGV[3] then
  return last[2]
end
-- Later than at the beginning: this call was carried out and another one after it, or another one
-- instead. What there was is gone, and what there is came since. (Earlier: a fail-over undid a
-- clear, and the records are back.)
if tonumber(generation) > tonumber(ARGV[4]) then
  return '0'
end
local cleared = base .. 'cleared'
-- The sweep goes by the ids: without them records would be left that nobody sees.
if not has_all_ids() then
  return redis.error_reply('DAMAGED ids')
end
local count = redis.call('ZCARD', at .. 'ids')
if count == 0 then
  return '0'
end
redis.call('SCARD', cleared)
-- A full server refuses a script whose first write may need memory. This one needs none.
redis.call('HDEL', meta, '')
redis.call('SADD', cleared, generation)
redis.call('HSET', meta, 'generation', string.format('%.0f', generation + 1),
  'cleared_by', ARGV[3], 'cleared', count, 'count', '0')
redis.call('SET', base .. 'twin', string.format('%.0f', generation + 1))
redis.call('HINCRBY', meta, 'writes', 1)
redis.pcall('PUBLISH', ARGV[5], '*')
return tostring(count)
