-- Answers the generations that were cleared and are not unlinked yet.
return redis.call('SMEMBERS', base .. 'cleared')
