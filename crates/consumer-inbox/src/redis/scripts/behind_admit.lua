local of_all = redis.call('HMGET', KEYS[1], 'incarnation')
local at = redis.call('HMGET', KEYS[2], 'epoch', 'next')
local floor = redis.call('HGET', KEYS[3], 'floor')
local found = redis.call('HMGET', KEYS[4], 's', 'a', 'f', 'r', 'm', 'k', 'q', 'x')
return { of_all[1], at[1], at[2], floor, unpack(found) }
