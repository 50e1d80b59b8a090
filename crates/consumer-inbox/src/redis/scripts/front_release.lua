local found = redis.call('HMGET', KEYS[1], 's', 'o')
if found[1] == 'b' and found[2] == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 'ok'
