-- Deletes all records, by going on to the next generation, in which there are none yet. Answers 1
-- and how many there were, or 0 and the present generation if it is not the expected one. The old
-- keys are left to be unlinked bit by bit.
--
-- ARGV[3]: a name for this call. ARGV[4]: the generation that is expected. ARGV[5]: the channel.
local done, cleared = base .. 'done:' .. ARGV[3], base .. 'cleared'
local earlier = redis.call('GET', done)
if earlier then
  return {1, earlier}
end
if generation ~= ARGV[4] then
  return {0, generation}
end
local count = redis.call('ZCARD', at .. 'ids')
if count == 0 then
  return {1, '0'}
end
redis.call('SCARD', cleared)
-- A full server refuses a script whose first write may need memory. This one needs none.
redis.call('HDEL', meta, '')
redis.call('SADD', cleared, generation)
redis.call('HSET', meta, 'generation', string.format('%.0f', generation + 1))
redis.call('HINCRBY', meta, 'writes', 1)
redis.call('SET', done, tostring(count), 'PX', REMEMBERED)
redis.pcall('PUBLISH', ARGV[5], '*')
return {1, tostring(count)}
