-- Answers the generation, and up to ARGV[5] records of it with ids above ARGV[4] ('' for all), in
-- the order of their ids. ARGV[3]: another generation than the present one, or ''.
if ARGV[3] ~= '' then
  generation = ARGV[3]
  at = base .. generation .. ':'
end
if ARGV[3] == '' and not has_all_ids() then
  return redis.error_reply('DAMAGED ids')
end
local above = ARGV[4] == '' and '-inf' or '(' .. ARGV[4]
local ids = redis.call('ZRANGEBYSCORE', at .. 'ids', above, '+inf', 'LIMIT', 0, ARGV[5])
local rows = {}
for i, id in ipairs(ids) do
  rows[i] = {id, redis.call('HMGET', at .. 'token:' .. id, unpack(FIELDS)), 1}
end
return {generation, rows}
