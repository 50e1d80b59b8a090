-- Looks at a piece of the scope's ids, oldest records first, and forgets those that are below the horizon; the floor rises with them. With two keys
-- more, the inbox and its stream, the database is told.
local scope, index, prefix = KEYS[1], KEYS[2], ARGV[2]
local now = clock(ARGV[1])
local settled_before, origin_before = now - tonumber(ARGV[3]), tonumber(ARGV[5])
local parked_before = ARGV[4] ~= '' and now - tonumber(ARGV[4])
local max, skip, piece = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
if KEYS[3] and not redis.call('HGET', KEYS[3], 'incarnation') then
  return { '0', '0', '1' }
end
local starts = {}
for at = 9, #ARGV, 3 do
  starts[ARGV[at + 1] .. ':' .. ARGV[at]] = tonumber(ARGV[at + 2])
end

local floor = tonumber(redis.call('HGET', scope, 'floor') or '-1')
local members = redis.call('ZRANGE', index, skip, skip + piece - 1)
local gone, ended = {}, #members < piece
for _, member in ipairs(members) do
  if #gone == max then
    ended = true
    break
  end
  local id = prefix .. string.len(member) .. ':' .. member
  local found = redis.call('HMGET', id, 's', 'a', 'm', 'k', 'q', 'x')
  local state, origin = found[1], tonumber(found[3] or '-1')
  if origin >= origin_before and found[3] then
    ended = true
    break
  end
  local before = settled_before
  if state == 'p' then
    before = parked_before
  end
  local start = found[6] and starts[found[5] .. ':' .. found[4]]
  local unreachable = not found[6] or (start and tonumber(found[6]) < start)
  if not state or (state ~= 'b' and before and tonumber(found[2]) < before and unreachable) then
    gone[#gone + 1] = { id, member, state }
    floor = math.max(floor, origin)
  end
end

local seq
if KEYS[3] and #gone > 0 then
  redis.call('XLEN', KEYS[4])
  seq = tonumber(redis.call('HGET', KEYS[3], 'seq') or '0') + 1
end

local forgotten = 0
if floor >= 0 then
  redis.call('HSET', scope, 'floor', num(floor))
end
for _, one in ipairs(gone) do
  redis.call('DEL', one[1])
  redis.call('ZREM', index, one[2])
  -- What is in the index alone was forgotten before.
  forgotten = forgotten + (one[3] and 1 or 0)
end
if seq then
  local entry = { 'k', prefix, 'f', num(floor) }
  for _, one in ipairs(gone) do
    entry[#entry + 1] = 'i'
    entry[#entry + 1] = one[2]
  end
  redis.call('HSET', KEYS[3], 'seq', num(seq))
  redis.call('XADD', KEYS[4], num(seq) .. '-0', unpack(entry))
end
return { num(forgotten), num(skip + #members - #gone), ended and '1' or '0' }
