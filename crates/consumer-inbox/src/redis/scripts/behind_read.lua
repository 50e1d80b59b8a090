local of_all = redis.call('HMGET', KEYS[1], 'incarnation')
local entries = redis.call('XRANGE', KEYS[2], num(tonumber(ARGV[1]) + 1) .. '-0', '+', 'COUNT', ARGV[2])
return { of_all[1] or '', entries }
