-- Puts one text in the place of another, if the cell still holds that and it is not too late.
-- Answers 1 if it was done, else 0.
--
-- ARGV[3]: the key, as for reading. ARGV[4], ARGV[5]: the text that is expected, and the new one;
-- '' for no cell. ARGV[6]: the last moment in milliseconds, or ''. ARGV[7]: for how long a cell is
-- kept that is no stored record's, in milliseconds.
local is_record = string.sub(ARGV[3], 1, 3) == 'id:'
local cell = (is_record and at or base) .. 'cell:' .. ARGV[3]
local before, after = ARGV[4], ARGV[5]
local text = redis.call('GET', cell) or ''
-- A cell never holds the same text twice, so a call that was sent before has done this.
if again and text == after then
  return 1
end
if text ~= before then
  return 0
end
if ARGV[6] ~= '' then
  local now = redis.call('TIME')
  if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(ARGV[6]) then
    return 0
  end
end
if after == '' then
  redis.call('DEL', cell)
elseif is_record and redis.call('EXISTS', at .. 'token:' .. string.sub(ARGV[3], 4)) == 1 then
  redis.call('SET', cell, after)
else
  redis.call('SET', cell, after, 'PX', ARGV[7])
end
return 1
