-- Answers the format of the store, '' if the key is something else, nothing if there is no store.
if redis.call('EXISTS', meta) == 0 then
  return false
end
return redis.call('HGET', meta, 'format') or ''
