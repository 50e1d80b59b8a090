-- Fields of what Redis was told of an id: f fingerprint, m origin time, k topic, q partition, x offset, g sweeps before, t token, r result.
local found = redis.call('HMGET', KEYS[1], 'f', 'm', 'k', 'q', 'x', 'g', 't', 'r')
local sweeps = redis.call('GET', KEYS[2]) or '0'
for at = 1, 5 do
  if found[at] ~= ARGV[at] then
    return { 'ask', sweeps }
  end
end
if found[6] ~= sweeps then
  return { 'ask', sweeps }
end
return { 'done', found[7], found[8] or nil }
