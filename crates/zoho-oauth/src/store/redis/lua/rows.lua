-- Answers the records that are wanted. ARGV[3…]: 'token:<id>', or the name of an index. Behind the
-- fields stands 1 for a record whose id is listed, which is asked where there is no field.
local seen, rows = {}, {}
local function add(id)
  if not seen[id] then
    seen[id] = true
    local fields = redis.call('HMGET', at .. 'token:' .. id, unpack(FIELDS))
    local is_there = false
    for field = 1, 10 do
      is_there = is_there or fields[field]
    end
    local is_listed = is_there
      or #redis.call('ZRANGEBYSCORE', at .. 'ids', id, id, 'LIMIT', 0, 1) > 0
    rows[#rows + 1] = {id, fields, is_listed and 1 or 0}
  end
end
for i = 3, #ARGV do
  local id = string.match(ARGV[i], '^token:(.*)$')
  if id then
    add(id)
  else
    for _, found in ipairs(redis.call('SMEMBERS', at .. ARGV[i])) do
      add(found)
    end
  end
end
return rows
