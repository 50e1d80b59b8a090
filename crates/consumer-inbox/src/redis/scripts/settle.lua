local now = clock(ARGV[1])
local how, ttl = ARGV[3], ARGV[4]
local found = redis.call('HMGET', KEYS[1], 's', 't', 'm')
if found[2] ~= ARGV[2] or (found[1] ~= 'b' and found[1] ~= how) then
  return 'lost'
end
if found[1] == 'b' then
  redis.call('HSET', KEYS[1], 's', how, 'a', num(now))
  redis.call('HDEL', KEYS[1], 'o')
  if ARGV[5] then
    redis.call('HSET', KEYS[1], 'r', ARGV[5])
  end
  expire(KEYS[1], ttl, now, math.max(now, tonumber(found[3] or '0')))
end
return 'ok'
