-- Answers the highest id that was given, and the number that every insert and delete moves.
return redis.call('HMGET', meta, 'highest_id', 'writes')
