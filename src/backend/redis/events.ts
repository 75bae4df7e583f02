/**
 * A stream is three keys: a hash that says how it stands, a Redis stream of its events, whose ids are the positions, and a
 * sorted set of its newest batches. A fourth key lists the streams of a session.
 */
import { type EventLog, RECENT_BATCHES, type Retention, type StreamInfo, TOMBSTONE_TTL } from '../backend.js'
import type { Keys } from './keys.js'
import type { Link } from './link.js'
import { milliseconds, NOW, run, script } from './script.js'

// Fields of the hash: `head`, `writer`, `reader` and `sent` (absent: none), `first` and `last` (positions), `bytes` (UTF-16 code units
// of the events kept), and `ended` (absent: not yet).

/** Lua that writes a position as a whole number: large ones would otherwise become text such as 5e+09. */
const WHOLE = `
local function whole(number) return string.format('%.0f', tonumber(number)) end
`

const INFO = `
local function info()
  return redis.call('HMGET', KEYS[1], 'head', 'writer', 'reader', 'sent', 'first', 'last', 'ended')
end
`

/**
 * Lua that sets the expiry of a stream's keys, and of the session's list of streams if that would expire sooner. A script that
 * uses it has the stream, its events and the list as KEYS 1 to 3, and the batches as KEYS 5.
 */
const KEEP = `
${NOW}
local function keep(stream, ttl)
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
  redis.call('PEXPIRE', KEYS[5], ttl)
  redis.call('ZADD', KEYS[3], now + ttl, stream)
  if redis.call('PTTL', KEYS[3]) < tonumber(ttl) then redis.call('PEXPIRE', KEYS[3], ttl) end
end
`

const OPEN = script(`
${WHOLE}${KEEP}
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
local base = tonumber(ARGV[4])
redis.call('DEL', KEYS[2], KEYS[5])
redis.call('HSET', KEYS[1], 'head', ARGV[3], 'first', whole(base + 1), 'last', whole(base), 'bytes', 0)
if ARGV[5] then redis.call('HSET', KEYS[1], 'writer', ARGV[5]) end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
keep(ARGV[1], ARGV[2])
return 1
`)

// A batch that was appended before gets its answer, also when the stream has ended or has another writer meanwhile.
const APPEND = script(`
${WHOLE}${KEEP}
local stream, ttl, max_events, max_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local id, ends, writer, after, data = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), 9
local last, first, bytes, ended, owner =
  unpack(redis.call('HMGET', KEYS[1], 'last', 'first', 'bytes', 'ended', 'writer'))
if not last or redis.call('EXISTS', KEYS[4]) == 1 then return false end
local seen = redis.call('ZSCORE', KEYS[5], id)
if seen then return whole(seen) end
if ended or (owner and '=' .. owner ~= writer) then return false end

last, first, bytes = tonumber(last), tonumber(first), tonumber(bytes)
if after and after > last then
  redis.call('DEL', KEYS[2])
  last, first, bytes = after, after + 1, 0
end
for i = data, #ARGV, 2 do
  last = last + 1
  bytes = bytes + tonumber(ARGV[i])
  redis.call('XADD', KEYS[2], whole(last) .. '-0', 'size', ARGV[i], 'data', ARGV[i + 1])
end

local oldest = first
while first < last and (last - first + 1 > max_events or bytes > max_bytes) do
  local entry = redis.call('XRANGE', KEYS[2], whole(first) .. '-0', whole(first) .. '-0')[1]
  if entry then bytes = bytes - tonumber(entry[2][2]) end
  first = first + 1
end
if first > oldest then redis.call('XTRIM', KEYS[2], 'MINID', whole(first) .. '-0') end

redis.call('ZADD', KEYS[5], whole(last), id)
if redis.call('ZCARD', KEYS[5]) > ${2 * RECENT_BATCHES} then
  redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -${RECENT_BATCHES + 1})
end
redis.call('HSET', KEYS[1], 'last', whole(last), 'first', whole(first), 'bytes', whole(bytes))
if ends == '1' then redis.call('HSET', KEYS[1], 'ended', 1) end
keep(stream, ttl)
return whole(last)
`)

const READ = script(`
${INFO}
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local events = {}
if ARGV[2] ~= '0' then events = redis.call('XRANGE', KEYS[2], ARGV[1] .. '-0', '+', 'COUNT', ARGV[2]) end
return {info(), events}
`)

const ATTACH = script(`
${INFO}
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local before = info()
redis.call('HSET', KEYS[1], 'reader', ARGV[1])
return before
`)

const SENT = script(`
local last, sent = unpack(redis.call('HMGET', KEYS[1], 'last', 'sent'))
if last and tonumber(sent or 0) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'sent', ARGV[1]) end
return 1
`)

const CLAIM = script(`
local writer, ended = unpack(redis.call('HMGET', KEYS[1], 'writer', 'ended'))
if ended or writer ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'writer', ARGV[1])
return 1
`)

// The tombstone of the session store says more (`session`: refuse the session too), so it is kept, and only lasts longer.
const DELETE = script(`
if redis.call('SET', KEYS[1], 'events', 'PX', ARGV[1], 'NX') == false then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return redis.call('ZRANGE', KEYS[2], 0, -1)
`)

export function eventLog(link: Link, keys: Keys, retention: Required<Retention>): EventLog {
  const ttl = milliseconds(retention.ttl)
  const maxEvents = String(Math.min(retention.maxEvents, Number.MAX_SAFE_INTEGER))
  const maxBytes = String(Math.min(retention.maxBytes, Number.MAX_SAFE_INTEGER))
  const pair = (session: string, stream: string) => [keys.stream(session, stream), keys.events(session, stream)]
  const all = (session: string, stream: string) => [
    ...pair(session, stream),
    keys.streams(session),
    keys.deleted(session),
    keys.batches(session, stream),
  ]

  return {
    ttl: retention.ttl,

    async open(session, stream, { head, writer, base = 0 }) {
      const args = [stream, ttl, head, String(base)]
      if (writer !== undefined) args.push(writer)
      return (await run(link, OPEN, all(session, stream), args)) === 1
    },

    async append(session, stream, { id, writer, events, end, after }) {
      const args = [stream, ttl, maxEvents, maxBytes, id, end ? '1' : '', writer === undefined ? '' : `=${writer}`]
      args.push(after === undefined ? '' : String(after))
      for (const data of events) args.push(String(data.length), data)
      const last = await run(link, APPEND, all(session, stream), args)
      return typeof last === 'string' ? Number(last) : undefined
    },

    async read(session, stream, after, limit) {
      const args = [String(after + 1), String(Math.max(0, Math.min(limit, 1_000_000)))]
      const reply = await run(link, READ, pair(session, stream), args)
      if (!Array.isArray(reply)) return undefined
      const [fields, entries] = reply as [unknown[], [string, string[]][]]
      const events = entries.map(([id, entry]) => ({ position: Number.parseInt(id, 10), data: entry[3] ?? '' }))
      return { ...streamInfo(fields), events }
    },

    async attach(session, stream, reader) {
      const fields = await run(link, ATTACH, [keys.stream(session, stream)], [reader])
      return Array.isArray(fields) ? streamInfo(fields) : undefined
    },

    async sent(session, stream, position) {
      await run(link, SENT, [keys.stream(session, stream)], [String(position)])
    },

    async claim(session, stream, writer, from) {
      return (await run(link, CLAIM, [keys.stream(session, stream)], [writer, from])) === 1
    },

    async delete(session) {
      const index = keys.streams(session)
      const streams = await run(link, DELETE, [keys.deleted(session), index], [milliseconds(TOMBSTONE_TTL)])
      // From here on no stream is opened or appended to. Should this node die now, a second delete finds the same list; without
      // one, the keys expire.
      const names = (Array.isArray(streams) ? streams : []).flatMap((stream) => [
        ...pair(session, String(stream)),
        keys.batches(session, String(stream)),
      ])
      await link.send(index, ['unlink', index, ...names])
    },
  }
}

function streamInfo([head, writer, reader, sent, first, last, ended]: unknown[]): StreamInfo {
  return {
    head: String(head),
    writer: typeof writer === 'string' ? writer : undefined,
    reader: typeof reader === 'string' ? reader : undefined,
    sent: typeof sent === 'string' ? Number(sent) : undefined,
    first: Number(first),
    last: Number(last),
    ended: ended !== null && ended !== undefined,
  }
}
