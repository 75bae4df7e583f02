/**
 * Lua that knows what the streams of a session weigh together, and drops what is too much.
 *
 * Redis removes keys that expire without telling: what a stream weighs is kept beside the list of streams by their expiry, and those
 * that have expired are taken off before a stream is opened, and before anything is dropped.
 */
import { STREAM_WEIGHT } from '../backend.js'

/** Not what any stream is called, see {@link wellFormed}. */
const TOTAL = '%'

/** Added to a time in microseconds: in this order streams are dropped from. The largest sum is still a whole number for Lua. */
const EMPTIED = 3e15
const UNFINISHED = 6e15

/**
 * Needs NOW and `whole`. `weights` is the hash of what each stream weighs, and all together; `spare` the sorted set of the streams of
 * which something may be dropped, in the order in which it goes.
 */
export const BUDGET = `
local function forget(streams, weights, spare, name)
  redis.call('ZREM', streams, name)
  redis.call('ZREM', spare, name)
  local weight = redis.call('HGET', weights, name)
  if not weight then return end
  redis.call('HDEL', weights, name)
  redis.call('HINCRBY', weights, '${TOTAL}', -weight)
end

local function forget_expired(streams, weights, spare)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', streams, '-inf', now)) do forget(streams, weights, spare, name) end
end
`

/** The same for an append, whose KEYS are: the stream, its events, the session's streams, its tombstone, batches, weights, spare. */
export const SPEND = `
${BUDGET}
local streams, weights, spare = KEYS[3], KEYS[6], KEYS[7]

-- Sets what a stream weighs, with events of so many code units; returns what all weigh.
local function weigh(name, head, bytes)
  local weight = ${STREAM_WEIGHT} + tonumber(head or 0) + bytes
  local before = tonumber(redis.call('HGET', weights, name) or 0)
  if weight ~= before then redis.call('HSET', weights, name, whole(weight)) end
  return redis.call('HINCRBY', weights, '${TOTAL}', whole(weight - before))
end

-- Removes the oldest events of a stream, but not the newest, until over is spent; returns how many are left, and their code units.
local function trim(events, kept, bytes, over)
  while kept > 1 and over > 0 do
    local size = tonumber(string.match(redis.call('LPOP', events), '^%d+'))
    bytes = bytes - size
    over = over - size
    kept = kept - 1
  end
  return kept, bytes
end

local function rank(name, ended, kept)
  local place
  if ended then place = kept > 0 and 0 or ${EMPTIED}
  elseif kept > 1 then place = ${UNFINISHED} end
  if place then redis.call('ZADD', spare, whole(place + micros), name) else redis.call('ZREM', spare, name) end
end

-- Drops what may go of one stream. The prefixes are those of the names of a stream's keys.
local function drop(name, prefixes, over)
  local stream, events = prefixes[1] .. name, prefixes[2] .. name
  local bytes, ended, head = unpack(redis.call('HMGET', stream, 'bytes', 'ended', 'headSize'))
  local kept = redis.call('LLEN', events)
  if not bytes or (ended and kept == 0) then
    redis.call('DEL', stream, events, prefixes[3] .. name)
    return forget(streams, weights, spare, name)
  end
  if ended then
    redis.call('DEL', events)
    kept, bytes = 0, 0
    -- In the order in which they ended.
    redis.call('ZADD', spare, whole(${EMPTIED} + tonumber(redis.call('ZSCORE', spare, name))), name)
  else
    kept, bytes = trim(events, kept, tonumber(bytes), over)
    if kept == 1 then redis.call('ZREM', spare, name) end
  end
  redis.call('HSET', stream, 'bytes', whole(bytes))
  weigh(name, head, bytes)
end

-- The stream of KEYS was appended to; returns the code units of the events that it has then.
local function appended(name, head, kept, bytes, ended, max, prefixes)
  local total = weigh(name, head, bytes)
  if total > max then
    redis.call('ZREM', spare, name)
    forget_expired(streams, weights, spare)
    total = tonumber(redis.call('HGET', weights, '${TOTAL}'))
    while total > max do
      local other = redis.call('ZRANGE', spare, 0, 0)[1]
      if not other then break end
      drop(other, prefixes, total - max)
      total = tonumber(redis.call('HGET', weights, '${TOTAL}'))
    end
    kept, bytes = trim(KEYS[2], kept, bytes, total - max)
    weigh(name, head, bytes)
  end
  rank(name, ended, kept)
  return bytes
end
`
