-- Fields: value, guard (20 digits, so that text compares like numbers), source (what the guard counts).
local found = redis.call('HMGET', KEYS[1], 'guard', 'source')
local source, guard, value = ARGV[1], ARGV[2], ARGV[3]
if found[1] then
  if found[2] ~= source then
    return { 'other' }
  end
  if found[1] == guard then
    return { 'repeated' }
  end
  if found[1] > guard then
    return { 'stale', found[1] }
  end
end
if value then
  redis.call('HSET', KEYS[1], 'guard', guard, 'source', source, 'value', value)
else
  redis.call('HSET', KEYS[1], 'guard', guard, 'source', source)
  redis.call('HDEL', KEYS[1], 'value')
end
return { 'applied' }
