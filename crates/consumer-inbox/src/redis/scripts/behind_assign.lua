if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then
  return { 'lost' }
end
local at = redis.call('HMGET', KEYS[2], 'epoch', 'next')
if tonumber(at[1] or '0') > tonumber(ARGV[2]) then
  return { 'fenced', at[1] }
end
local next = tonumber(at[2] or '0')
local synced = tonumber(ARGV[3])
-- The database never is ahead, unless this is an older copy.
if at[1] and next < synced then
  return { 'behind' }
end
next = num(math.max(next, synced))
redis.call('HSET', KEYS[2], 'epoch', ARGV[2], 'next', next)
return { 'ok', next }
