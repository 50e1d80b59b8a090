-- Keys: the inbox, the position, the stream; of each entity one; of each id its own and its index, also of those that were only seen; of each lock one.
local meta, position, stream = KEYS[1], KEYS[2], KEYS[3]
local now = clock(ARGV[1])
local epoch, next, most, entry = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local changes = ARGV[11] == '1'
local entities, ids, seen, locks = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

if redis.call('HGET', meta, 'incarnation') ~= ARGV[2] then
  return { 'fenced', '0' }
end
local at = redis.call('HMGET', position, 'epoch', 'next')
if at[1] ~= epoch then
  return { 'fenced', at[1] or '0' }
end
local moves = next > tonumber(at[2] or '0')
local key, arg = 4, 12
local writes = {}
local function write(...)
  writes[#writes + 1] = { ... }
end

for _ = 1, entities do
  local first, version, amount, value = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 4]
  -- One that is not here is as the database has it.
  local found = redis.call('HGET', KEYS[key], 'v')
  if found and found ~= first then
    return { 'conflict' }
  end
  if version ~= first then
    write('HSET', KEYS[key], 'v', version, 'a', amount)
    if ARGV[arg + 3] == '1' then
      write('HSET', KEYS[key], 'd', value)
    else
      write('HDEL', KEYS[key], 'd')
    end
  end
  key, arg = key + 1, arg + 5
end
-- The record that an id goes with, unless it has a newer one.
local function follow(id, index, member, m, k, q, x, old)
  if old and not (m ~= '' and tonumber(old) <= tonumber(m)) then
    return
  end
  if m == '' then
    write('HDEL', id, 'm')
  else
    write('HSET', id, 'm', m)
  end
  write('HSET', id, 'k', k, 'q', q, 'x', x)
  write('ZADD', index, m ~= '' and m or '-1', member)
end
for _ = 1, ids do
  local id, index = KEYS[key], KEYS[key + 1]
  local found = redis.call('HMGET', id, 's', 'm')
  redis.call('ZCARD', index)
  if (found[1] or '') ~= ARGV[arg] then
    return { 'conflict' }
  end
  write('HSET', id, 's', ARGV[arg + 1], 'a', num(now), 'f', ARGV[arg + 2])
  if ARGV[arg + 8] == '1' then
    write('HSET', id, 'r', ARGV[arg + 9])
  else
    write('HDEL', id, 'r')
  end
  follow(id, index, ARGV[arg + 3], ARGV[arg + 4], ARGV[arg + 5], ARGV[arg + 6], ARGV[arg + 7], found[2])
  key, arg = key + 2, arg + 10
end
for _ = 1, seen do
  local id, index = KEYS[key], KEYS[key + 1]
  local found = redis.call('HMGET', id, 's', 'm')
  redis.call('ZCARD', index)
  if found[1] then
    follow(id, index, ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4], found[2])
  end
  key, arg = key + 2, arg + 5
end
for _ = 1, locks do
  local found = redis.call('HMGET', KEYS[key], 's', 'o')
  if found[1] == 'b' and found[2] == ARGV[arg] then
    write('DEL', KEYS[key])
  end
  key, arg = key + 1, arg + 1
end

if moves or changes then
  if redis.call('XLEN', stream) >= most then
    return { 'busy' }
  end
  if moves then
    write('HSET', position, 'next', num(next))
  end
  local seq = tonumber(redis.call('HGET', meta, 'seq') or '0') + 1
  write('HSET', meta, 'seq', num(seq))
  write('XADD', stream, num(seq) .. '-0', 'b', entry, 't', num(now))
end
for _, one in ipairs(writes) do
  redis.call(unpack(one))
end
return { 'ok' }
