-- Fields of an id: s state (b busy, f free, d done, p parked), t token, n attempt, p prior (n, r, c, p), o owner, a end of the lease or
-- time of the settlement, f fingerprint, r result, m origin time, k topic, q partition, x offset.
-- Fields of a scope: token the last one, floor, run the server's replication id, doubt until when what is absent may have been lost,
-- born when the scope began.
local id, scope, index = KEYS[1], KEYS[2], KEYS[3]
local owner, fingerprint, redrive = ARGV[2], ARGV[3], ARGV[5] == '1'
local lease, origin, member, ttl = tonumber(ARGV[4]), ARGV[6], ARGV[10], ARGV[11]
local born_before, longest = ARGV[12], tonumber(ARGV[13])
local now, us = clock(ARGV[1])

-- Every key is read before any is written: one of a wrong type ends the script here.
local found = redis.call('HMGET', id, 's', 't', 'n', 'p', 'o', 'a', 'f', 'r', 'm', 'k', 'q', 'x')
local state, token, attempt, prior = found[1], found[2], found[3], found[4]
local of_scope = redis.call('HMGET', scope, 'token', 'floor', 'run', 'doubt', 'born')
if ttl == '' then
  redis.call('ZSCORE', index, member)
end

local record = {
  'm', origin ~= '' and origin or false,
  'k', ARGV[9] ~= '' and ARGV[7] or false,
  'q', ARGV[9] ~= '' and ARGV[8] or false,
  'x', ARGV[9] ~= '' and ARGV[9] or false,
}
local newer, other = true, true
if state then
  newer = not found[9] or (record[2] and tonumber(found[9]) <= tonumber(record[2]))
  other = found[9] ~= record[2] or found[10] ~= record[4] or found[11] ~= record[6] or found[12] ~= record[8]
end

-- The id goes with the newest record that carried it: what that has is added to the fields to write.
local function follow(fields)
  if not (newer and other) then
    return
  end
  for at = 1, 7, 2 do
    if record[at + 1] then
      fields[#fields + 1] = record[at]
      fields[#fields + 1] = record[at + 1]
    elseif state then
      redis.call('HDEL', id, record[at])
    end
  end
  if ttl == '' then
    redis.call('ZADD', index, record[2] or '-1', member)
  elseif state and record[2] then
    local left = redis.call('PTTL', id)
    local wanted = tonumber(record[2]) + tonumber(ttl) - now
    if left >= 0 and wanted > left then
      redis.call('PEXPIRE', id, num(wanted))
    end
  end
end

local function seen()
  local fields = {}
  follow(fields)
  if #fields > 0 then
    redis.call('HSET', id, unpack(fields))
  end
end

local function busy(with_token, with_attempt, with_prior)
  local til = now + lease
  local fields = { 's', 'b', 't', with_token, 'n', with_attempt, 'p', with_prior, 'o', owner,
    'a', num(til), 'f', fingerprint }
  if found[8] then
    redis.call('HDEL', id, 'r')
  end
  follow(fields)
  redis.call('HSET', id, unpack(fields))
  expire(id, ttl, now, math.max(til, tonumber(record[2] or '0'), tonumber(found[9] or '0')))
end

local function grant(with_attempt, with_prior)
  local ran, info = pcall(redis.call, 'INFO', 'replication')
  local run = ran and type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or '?'
  local born = of_scope[5] or num(us)
  local doubt = tonumber(of_scope[4] or '0')
  -- Another server, or one that lost what it had: who held this id before may still work on it.
  if (of_scope[3] and of_scope[3] ~= run) or (born_before ~= '' and born_before ~= born) then
    doubt = now + longest
  end
  if now < doubt and with_prior ~= 'p' then
    with_prior = 'c'
  end
  local last = math.max(tonumber(of_scope[1] or '0'), tonumber(token or '0'))
  local next_token = num(math.max(last + 1, us))
  if of_scope[3] == run and of_scope[4] == num(doubt) and of_scope[5] == born then
    redis.call('HSET', scope, 'token', next_token)
  else
    redis.call('HSET', scope, 'token', next_token, 'run', run, 'born', born, 'doubt', num(doubt))
  end
  busy(next_token, num(with_attempt), with_prior)
  return { 'run', next_token, num(with_attempt), with_prior, born }
end

if not state then
  local floor = tonumber(of_scope[2] or '-1')
  if ttl ~= '' then
    floor = math.max(floor, now - tonumber(ttl))
  end
  if origin ~= '' and tonumber(origin) <= floor then
    return { 'expired' }
  end
  return grant(1, 'n')
end
if found[7] ~= fingerprint then
  return { 'mismatch', found[7] }
end
if state == 'd' then
  seen()
  if found[8] then
    return { 'done', token, found[8] }
  end
  return { 'done', token }
end
if state == 'p' then
  if not redrive then
    seen()
    return { 'parked' }
  end
  return grant(1, 'p')
end
if state == 'b' then
  if found[5] == owner then
    busy(token, attempt, prior)
    return { 'run', token, attempt, prior, of_scope[5] or '' }
  end
  local left = tonumber(found[6]) - now
  if left > 0 then
    return { 'busy', num(left) }
  end
  return grant(tonumber(attempt) + 1, 'c')
end
return grant(tonumber(attempt) + 1, 'r')
