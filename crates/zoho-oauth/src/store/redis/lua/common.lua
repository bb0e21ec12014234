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
local generation = redis.call('HGET', meta, 'generation') or '1'
local at = base .. generation .. ':'
-- For how long a write that was done is remembered by its name, in milliseconds.
local REMEMBERED = 60000

