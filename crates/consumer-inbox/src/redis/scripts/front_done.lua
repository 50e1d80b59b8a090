redis.call('HGET', KEYS[1], 's')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 's', 'd', 'f', ARGV[1], 'k', ARGV[3], 'q', ARGV[4], 'x', ARGV[5])
if ARGV[6] then
  redis.call('HSET', KEYS[1], 'r', ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'ok'
