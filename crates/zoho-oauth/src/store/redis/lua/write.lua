-- Writes records, all or none. Answers 1 if it was done, and 0 if a record, or the mark, is not what
-- was expected.
--
-- ARGV[3]: a name for this write, under which it is remembered: sent again it answers the same. It
-- moves the mark. '' for a write that does neither: sent again it finds the record as it was to be.
-- ARGV[4], ARGV[5]: the mark that is expected, the highest id and the number; '' for any.
-- ARGV[6]: the highest id after the write; '' if it is the same.
-- ARGV[7]: the channel of changes.
-- ARGV[8]: for how long the write is remembered by its name, in milliseconds.
-- Then for each record 29 values: its id, the ten fields as they are (all '' for a new record), the
-- ten fields as they are to be (all '' for one to delete), the names of its four indexes as they
-- are, and as they are to be ('' for a field without a value).
local name, channel = ARGV[3], ARGV[7]
local FIRST, WIDTH = 9, 29

-- Redis takes nothing back when a script fails half-way. So every key is touched before the first
-- write: one of another kind, or one that a cluster is just moving away, ends the script here.
local done = base .. 'done:' .. name
if name ~= '' and redis.call('EXISTS', done) == 1 then
  return 1
end
if ARGV[4] ~= '' then
  local mark = redis.call('HMGET', meta, 'highest_id', 'writes', 'history')
  local now = history()
  if now ~= '' and now ~= mark[3] then
    -- A crash or a fail-over may have taken the last records that were acknowledged, and the mark
    -- with them. Their ids may be known elsewhere, so they are left out, and the mark goes to where
    -- it never was. If this is lost too, the next history begins elsewhere by its own name.
    local lost = 100000 + tonumber(string.sub(now, 1, 4), 16)
    local highest = math.min((mark[1] or 0) + lost, 9999999999)
    redis.call('HSET', meta, 'format', '1', 'generation', generation, 'history', now,
      'highest_id', string.format('%.0f', highest))
    redis.call('HSETNX', meta, 'writes', clock())
    redis.call('SET', base .. 'twin', generation)
    redis.call('HINCRBY', meta, 'writes', lost)
    return 0
  end
  if (mark[1] or '0') ~= ARGV[4] or (mark[2] or '0') ~= ARGV[5] then
    return 0
  end
end
for i = FIRST, #ARGV, WIDTH do
  local id = ARGV[i]
  local stored = redis.call('HMGET', at .. 'token:' .. id, unpack(FIELDS))
  local is_old, is_delete, is_insert = true, true, true
  for field = 1, 10 do
    local value, old, new = stored[field] or '', ARGV[i + field], ARGV[i + 10 + field]
    is_old = is_old and value == old
    is_insert = is_insert and old == ''
    is_delete = is_delete and new == ''
  end
  if not is_old then
    return 0
  end
  for index = 21, 28 do
    if ARGV[i + index] ~= '' then
      redis.call('SCARD', at .. ARGV[i + index])
    end
  end
  if is_insert or is_delete then
    redis.call('ZCARD', at .. 'ids')
  end
  if is_delete then
    redis.call('EXISTS', at .. 'cell:id:' .. id)
  end
end

-- A full server refuses a script whose first write may need memory: deleting alone goes through.
local added = 0
for i = FIRST, #ARGV, WIDTH do
  local id = ARGV[i]
  local key = at .. 'token:' .. id
  local is_delete, is_insert = true, true
  local changed, emptied = {}, {}
  for field = 1, 10 do
    local old, new = ARGV[i + field], ARGV[i + 10 + field]
    is_insert = is_insert and old == ''
    is_delete = is_delete and new == ''
    if new == '' then
      if old ~= '' then
        emptied[#emptied + 1] = FIELDS[field]
      end
    elseif new ~= old then
      changed[#changed + 1] = FIELDS[field]
      changed[#changed + 1] = new
    end
  end
  if is_delete then
    redis.call('DEL', key, at .. 'cell:id:' .. id)
    added = added - redis.call('ZREM', at .. 'ids', id)
  else
    if #changed > 0 then
      redis.call('HSET', key, unpack(changed))
    end
    if #emptied > 0 then
      redis.call('HDEL', key, unpack(emptied))
    end
    if is_insert then
      added = added + redis.call('ZADD', at .. 'ids', id, id)
    end
  end
  for index = 21, 24 do
    local old, new = ARGV[i + index], ARGV[i + index + 4]
    if old ~= new and old ~= '' then
      redis.call('SREM', at .. old, id)
    end
    -- Also where it is the same: an index that the server evicted comes back.
    if new ~= '' then
      redis.call('SADD', at .. new, id)
    end
  end
  -- The fifth field is the refresh token. Who may not publish can write all the same.
  if is_delete or (not is_insert and ARGV[i + 5] ~= ARGV[i + 15]) then
    redis.pcall('PUBLISH', channel, id)
  end
end
if name ~= '' then
  if redis.call('HSETNX', meta, 'format', '1') == 1 then
    -- Everything was flushed while the store was open. The clock makes the mark one that never was.
    redis.call('HSET', meta, 'generation', generation, 'highest_id', '0', 'writes', clock())
    redis.call('SET', base .. 'twin', generation)
  end
  if added ~= 0 then
    redis.call('HINCRBY', meta, 'count', added)
  end
  if ARGV[6] ~= '' then
    redis.call('HSET', meta, 'highest_id', ARGV[6])
  end
  redis.call('HINCRBY', meta, 'writes', 1)
  redis.call('SET', done, '1', 'PX', ARGV[8])
end
return 1
