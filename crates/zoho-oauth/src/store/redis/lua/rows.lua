-- Answers the records that are wanted. ARGV[3…]: 'token:<id>', or the name of an index.
local seen, rows = {}, {}
local function add(id)
  if not seen[id] then
    seen[id] = true
    rows[#rows + 1] = {id, redis.call('HMGET', at .. 'token:' .. id, unpack(FIELDS))}
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
