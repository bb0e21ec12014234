-- Makes the store if it is missing, and tries every command that its scripts use, so that a
-- permission that is missing shows now and not in the middle of a write. Answers the format, '' if
-- the key is something else; and the name of the data's history, '' if the server does not say.
local kind = redis.call('TYPE', meta).ok
if kind ~= 'none' then
  local format = kind == 'hash' and redis.call('HGET', meta, 'format') or ''
  if format ~= '1' then
    return {format or '', ''}
  end
end
local probe = base .. 'probe'
redis.call('DEL', probe)
redis.call('UNLINK', probe)
redis.call('SET', probe, '1', 'PX', 1000)
redis.call('GET', probe)
redis.call('EXISTS', probe)
redis.call('DEL', probe)
redis.call('SADD', probe, '1')
redis.call('SCARD', probe)
redis.call('SMEMBERS', probe)
redis.call('SREM', probe, '1')
redis.call('ZADD', probe, '1', '1')
redis.call('ZCARD', probe)
redis.call('ZRANGEBYSCORE', probe, '-inf', '+inf', 'LIMIT', 0, 1)
redis.call('ZREM', probe, '1')
redis.call('HSETNX', probe, 'a', '1')
redis.call('HSET', probe, 'a', '1')
redis.call('HINCRBY', probe, 'a', 1)
redis.call('HMGET', probe, 'a')
redis.call('HDEL', probe, 'a')
local now = clock()
if kind == 'none' then
  redis.call('HSET', meta, 'format', '1', 'generation', '1', 'highest_id', '0', 'writes', now,
    'history', history(), 'count', '0')
end
redis.call('SET', base .. 'twin', generation)
if not has_all_ids() then
  return redis.error_reply('DAMAGED ids')
end
return {'1', history()}
