redis.call('HGET', KEYS[1], 'f')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'f', ARGV[3], 'm', ARGV[4], 'k', ARGV[5], 'q', ARGV[6], 'x', ARGV[7], 'g', ARGV[2], 't', ARGV[8])
if ARGV[9] then
  redis.call('HSET', KEYS[1], 'r', ARGV[9])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 'ok'
