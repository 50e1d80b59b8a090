-- The server's time, unless a test names one: ms, and for tokens µs.
local function clock(given)
  if given ~= '' then
    return tonumber(given), tonumber(given) * 1000
  end
  local time = redis.call('TIME')
  local us = time[1] * 1000000 + time[2]
  return math.floor(us / 1000), us
end

-- A number as it is stored: `tostring` would cut it to 14 digits.
local function num(number)
  return string.format('%.0f', number)
end

-- Lets an id vanish by itself `ttl` ms behind the time from which it counts, if it ever does.
local function expire(key, ttl, now, from)
  if ttl ~= '' then
    redis.call('PEXPIRE', key, num(math.max(from, now) - now + tonumber(ttl)))
  end
end
