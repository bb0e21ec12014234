-- Answers the format of the store, '' if the key is something else, nothing if there is no store.
if redis.call('EXISTS', meta) == 0 then
  return false
end
local format = redis.call('HGET', meta, 'format') or ''
if format == '1' and not has_all_ids() then
  return redis.error_reply('DAMAGED ids')
end
return format
