local found = redis.call('HMGET', KEYS[1], 'incarnation', 'trimmed')
redis.call('XLEN', KEYS[2])
if found[1] == ARGV[1] and tonumber(found[2] or '0') < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'trimmed', ARGV[2])
  redis.call('XTRIM', KEYS[2], 'MINID', num(tonumber(ARGV[2]) + 1) .. '-0')
end
return 'ok'
