-- Answers the highest id that was given, and the number that every insert and delete moves.
local mark = redis.call('HMGET', meta, 'highest_id', 'writes')
-- A number that lies below a stored id would be given for ever, and the save would never succeed.
local highest = mark[1] or '0'
if tonumber(highest)
  and #redis.call('ZRANGEBYSCORE', at .. 'ids', '(' .. highest, '+inf', 'LIMIT', 0, 1) > 0 then
  return redis.error_reply('DAMAGED highest_id')
end
return mark
