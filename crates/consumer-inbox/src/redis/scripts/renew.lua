local now = clock(ARGV[1])
local found = redis.call('HMGET', KEYS[1], 's', 't', 'm')
if found[1] ~= 'b' or found[2] ~= ARGV[2] then
  return 'lost'
end
local til = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'a', num(til))
expire(KEYS[1], ARGV[4], now, math.max(til, tonumber(found[3] or '0')))
return 'ok'
