-- Before every script. KEYS[1] is the hash that describes the store; ARGV[1] is what the names of
-- all its keys begin with, and ends in ':'; ARGV[2] is '1' when the same call was sent before and
-- its answer was lost. All other names are made here: they have the same hash tag, so they lie in
-- the same slot.
local meta, base, again = KEYS[1], ARGV[1], ARGV[2] == '1'
local FIELDS = {
  'id', 'user_name', 'client_id', 'client_secret', 'refresh_token',
  'access_token', 'grant_token', 'expiry_time', 'redirect_url', 'api_domain',
}
-- Names of what holds the records; a clear goes on to the next generation.
local generation = redis.call('HGET', meta, 'generation')
if not generation then
  -- A server that evicts keys takes one at a time. A store that begins anew beside its old records
  -- would give their ids again.
  if redis.call('EXISTS', base .. 'twin') == 1 then
    return redis.error_reply('DAMAGED store')
  end
  generation = '1'
end
local at = base .. generation .. ':'
-- The server's clock in microseconds: where the number begins that every insert and delete moves.
local function clock()
  local now = redis.call('TIME')
  return now[1] .. string.format('%06d', now[2])
end
-- Whether the sorted set has as many ids as were saved and not deleted.
local function has_all_ids()
  return redis.call('ZCARD', at .. 'ids') == tonumber(redis.call('HGET', meta, 'count') or 0)
end
-- The server's name for this history of its data: another one after each start of a primary, and
-- after each fail-over. '' if it does not say.
local function history()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
end

