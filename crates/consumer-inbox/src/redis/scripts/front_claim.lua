-- Fields of a mark: s state (b busy, d done), o owner, f fingerprint, k topic, q partition, x offset, r result. What is busy vanishes with its lease.
local found = redis.call('HMGET', KEYS[1], 's', 'o', 'f', 'k', 'q', 'x', 'r')
local owner, fingerprint, lease = ARGV[1], ARGV[2], ARGV[3]
if found[1] == 'd' then
  -- Another record with the same id is the database's business: the id has to go with the newest one.
  if found[3] ~= fingerprint or found[4] ~= ARGV[4] or found[5] ~= ARGV[5] or found[6] ~= ARGV[6] then
    return { 'ask' }
  end
  return { 'done', found[7] or nil }
end
if found[1] == 'b' and found[2] ~= owner then
  return { 'busy' }
end
redis.call('HSET', KEYS[1], 's', 'b', 'o', owner)
redis.call('PEXPIRE', KEYS[1], lease)
return { 'run' }
