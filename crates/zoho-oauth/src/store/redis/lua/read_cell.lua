-- Answers the text of a lease cell, and the server's clock in milliseconds. ARGV[3]: the key, of a
-- record ('id:…') or of a credential ('start:…').
local cell = (string.sub(ARGV[3], 1, 3) == 'id:' and at or base) .. 'cell:' .. ARGV[3]
local now = redis.call('TIME')
return {redis.call('GET', cell), now[1] * 1000 + math.floor(now[2] / 1000)}
