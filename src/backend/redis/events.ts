/**
 * A stream is two keys: a hash that says how it stands, and a list of its events. One without a writer has a sorted set of its
 * newest batches, too. Three keys are about all streams of a session: which they are, what they weigh, and what may be dropped.
 */
import {
  BATCH_TTL,
  type EventLog,
  RECENT_BATCHES,
  type Retention,
  type StreamInfo,
  type StreamName,
  type StreamStanding,
  TOMBSTONE_TTL,
} from '../backend.js'
import { keptFor } from '../options.js'
import { BUDGET, SPEND } from './budget.js'
import { type Keys, wellFormed } from './keys.js'
import type { Link } from './link.js'
import { milliseconds, NOW, run, script } from './script.js'

// Fields of the hash: `head`, `headSize` (UTF-16 code units), `writer`, `reader` and `sent` (absent: none), `last` (a position), `bytes` (UTF-16 code units of the
// events kept), `ended` (absent: not yet), `batch` (of a stream with a writer: its last one), `forgetAt` and `forgetTo` (of another
// one: from when on the batches up to a position are forgotten).
//
// An element of the list is the size of an event in UTF-16 code units, a blank, and the event. The last one stands at `last`. A Redis
// stream would do as well, but takes 4 KiB for a single event.

/** Lua that writes a position as a whole number: large ones would otherwise become text such as 5e+09. */
const WHOLE = `
local function whole(number) return string.format('%.0f', tonumber(number)) end
`

/** Lua that says how the stream stands of which these are the two keys; false: there is none. */
const STANDING = `
${WHOLE}
local function standing(stream, events)
  local fields = redis.call('HMGET', stream, 'writer', 'reader', 'sent', 'ended', 'last')
  local last = fields[5]
  if not last then return false end
  fields[6] = whole(last - redis.call('LLEN', events) + 1)
  return fields
end
local function info()
  local fields = standing(KEYS[1], KEYS[2])
  if fields then fields[7] = redis.call('HGET', KEYS[1], 'head') end
  return fields
end
`

/** Lua that sets the expiry of a stream's keys, and of those of the session that would expire sooner. */
const KEEP = `
${NOW}
local function keep(stream, events, streams, weights, spare, name, ttl)
  redis.call('PEXPIRE', stream, ttl)
  redis.call('PEXPIRE', events, ttl)
  redis.call('ZADD', streams, now + ttl, name)
  for _, key in ipairs({streams, weights, spare}) do
    if redis.call('PTTL', key) < tonumber(ttl) then redis.call('PEXPIRE', key, ttl) end
  end
end
`

const OPEN = script(`
${WHOLE}${KEEP}${BUDGET}
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
redis.call('DEL', KEYS[2], KEYS[5])
redis.call('HSET', KEYS[1], 'head', ARGV[3], 'headSize', ARGV[4], 'last', whole(ARGV[5]), 'bytes', 0)
if ARGV[6] then redis.call('HSET', KEYS[1], 'writer', ARGV[6]) end
forget_expired(KEYS[3], KEYS[6], KEYS[7])
keep(KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7], ARGV[1], ARGV[2])
return 1
`)

// A batch that was appended before gets its answer, also when the stream has ended or has another writer meanwhile.
const APPEND = script(`
${WHOLE}${KEEP}${SPEND}
local name, ttl, max_events, max_bytes, max_session = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local prefixes = {ARGV[6], ARGV[7], ARGV[8]}
local id, ends, writer, after, data = ARGV[9], ARGV[10] == '1', ARGV[11], tonumber(ARGV[12]), 13
local last, bytes, ended, owner, batch, forget_at, forget_to, head =
  unpack(redis.call('HMGET', KEYS[1], 'last', 'bytes', 'ended', 'writer', 'batch', 'forgetAt', 'forgetTo', 'headSize'))
if not last or redis.call('EXISTS', KEYS[4]) == 1 then return false end
local seen = batch == id and last
if not owner then seen = redis.call('ZSCORE', KEYS[5], id) end
if seen then return whole(seen) end
if ended or (owner and '=' .. owner ~= writer) then return false end

last, bytes = tonumber(last), tonumber(bytes)
local known = ends or #ARGV >= data
if known and owner and after and after < last then return false end
if after and after > last then
  redis.call('DEL', KEYS[2])
  last, bytes = after, 0
end
for i = data, #ARGV, 2 do
  last = last + 1
  bytes = bytes + tonumber(ARGV[i])
  redis.call('RPUSH', KEYS[2], ARGV[i] .. ' ' .. ARGV[i + 1])
end
local kept = redis.call('LLEN', KEYS[2])
while kept > 1 and (kept > max_events or bytes > max_bytes) do
  bytes = bytes - tonumber(string.match(redis.call('LPOP', KEYS[2]), '^%d+'))
  kept = kept - 1
end
bytes = appended(name, head, kept, bytes, ends, max_session, prefixes)

redis.call('HSET', KEYS[1], 'last', whole(last), 'bytes', whole(bytes))
if ends then redis.call('HSET', KEYS[1], 'ended', 1) end
keep(KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7], name, ttl)
if known and owner then redis.call('HSET', KEYS[1], 'batch', id) end
if known and not owner then
  -- What is forgotten now was appended before the last time that this was done.
  if now >= tonumber(forget_at or 0) then
    if forget_to then redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', forget_to) end
    redis.call('HSET', KEYS[1], 'forgetAt', whole(now + ${BATCH_TTL}), 'forgetTo', whole(last))
  end
  redis.call('ZADD', KEYS[5], whole(last), id)
  redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -${RECENT_BATCHES + 1})
  redis.call('PEXPIRE', KEYS[5], math.min(${BATCH_TTL}, ttl))
end
return whole(last)
`)

const READ = script(`
${STANDING}
local info = info()
if not info then return false end
local last, first = tonumber(info[5]), tonumber(info[6])
local from, limit = math.max(tonumber(ARGV[1]) + 1, first), tonumber(ARGV[2])
if from > last or limit == 0 then return {info, whole(from), {}} end
return {info, whole(from), redis.call('LRANGE', KEYS[2], whole(from - first), whole(from - first + limit - 1))}
`)

const ATTACH = script(`
${STANDING}
local before = info()
if before then redis.call('HSET', KEYS[1], 'reader', ARGV[1]) end
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

// KEYS are two for each stream.
const LOOK = script(`
${STANDING}
local all = {}
for i = 1, #KEYS, 2 do all[#all + 1] = standing(KEYS[i], KEYS[i + 1]) end
return all
`)

// KEYS are five for each stream; ARGV are the two times to live, and the names of the streams.
const KEEP_ALL = script(`
${KEEP}
for i = 1, #KEYS, 5 do
  local last, ended = unpack(redis.call('HMGET', KEYS[i], 'last', 'ended'))
  if last then
    keep(KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3], KEYS[i + 4], ARGV[2 + (i + 4) / 5], ended and ARGV[2] or ARGV[1])
  end
end
return 1
`)

// The tombstone of the session store says more (`session`: refuse the session too), so it is kept, and only lasts longer.
const DELETE = script(`
if redis.call('SET', KEYS[1], 'events', 'PX', ARGV[1], 'NX') == false then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return redis.call('ZRANGE', KEYS[2], 0, -1)
`)

export function eventLog(link: Link, keys: Keys, retention: Required<Retention>): EventLog {
  const ttl = milliseconds(keptFor(retention, false))
  const finishedTtl = milliseconds(keptFor(retention, true))
  const maxEvents = String(Math.min(retention.maxEvents, Number.MAX_SAFE_INTEGER))
  const maxBytes = String(Math.min(retention.maxBytes, Number.MAX_SAFE_INTEGER))
  const maxSessionBytes = String(Math.min(retention.maxSessionBytes, Number.MAX_SAFE_INTEGER))
  const pair = (session: string, stream: string) => [keys.stream(session, stream), keys.events(session, stream)]
  const all = (session: string, stream: string) => [
    ...pair(session, stream),
    keys.streams(session),
    keys.deleted(session),
    keys.batches(session, stream),
    keys.weights(session),
    keys.spare(session),
  ]

  /** How the names of the keys begin that each stream of a session has for itself. */
  const beginnings = (session: string) => [...pair(session, ''), keys.batches(session, '')]

  /** Streams in groups that one script may have the keys of: all at once, or on a Redis Cluster those of each session. */
  const grouped = async (streams: readonly StreamName[]): Promise<(readonly StreamName[])[]> => {
    if (streams.length === 0) return []
    if (await link.hasOneServer()) return [streams]
    const sessions = new Map<string, StreamName[]>()
    for (const name of streams) sessions.set(name.session, [...(sessions.get(name.session) ?? []), name])
    return [...sessions.values()]
  }

  return {
    ttl: retention.ttl,

    async open(session, stream, { head, writer, base = 0 }) {
      const args = [wellFormed(stream), ttl, head, String(head.length), String(base)]
      if (writer !== undefined) args.push(writer)
      return (await run(link, OPEN, all(session, stream), args)) === 1
    },

    async append(session, stream, { id, writer, events, end, after }) {
      const args = [wellFormed(stream), end ? finishedTtl : ttl, maxEvents, maxBytes, maxSessionBytes]
      args.push(...beginnings(session))
      args.push(id, end ? '1' : '', writer === undefined ? '' : `=${writer}`, after === undefined ? '' : String(after))
      for (const data of events) args.push(String(data.length), data)
      const last = await run(link, APPEND, all(session, stream), args)
      return typeof last === 'string' ? Number(last) : undefined
    },

    async read(session, stream, after, limit) {
      const args = [String(after), String(Math.max(0, Math.min(limit, 1_000_000)))]
      const reply = await run(link, READ, pair(session, stream), args)
      if (!Array.isArray(reply)) return undefined
      const [fields, from, elements] = reply as [unknown[], string, string[]]
      const events = elements.map((element, index) => ({
        position: Number(from) + index,
        data: element.slice(element.indexOf(' ') + 1),
      }))
      return { ...infoOf(fields), events }
    },

    async attach(session, stream, reader) {
      const fields = await run(link, ATTACH, pair(session, stream), [reader])
      return Array.isArray(fields) ? infoOf(fields) : undefined
    },

    async sent(session, stream, position) {
      await run(link, SENT, [keys.stream(session, stream)], [String(position)])
    },

    async claim(session, stream, writer, from) {
      return (await run(link, CLAIM, [keys.stream(session, stream)], [writer, from])) === 1
    },

    async look(streams) {
      const found = new Map<StreamName, StreamStanding>()
      const look = async (group: readonly StreamName[]) => {
        const names = group.flatMap(({ session, stream }) => pair(session, stream))
        const standings = (await run(link, LOOK, names)) as unknown[]
        for (const [index, name] of group.entries()) {
          const fields = standings[index]
          if (Array.isArray(fields)) found.set(name, standingOf(fields))
        }
      }
      await Promise.all((await grouped(streams)).map(look))
      return streams.map((name) => found.get(name))
    },

    async keep(streams) {
      const keep = (group: readonly StreamName[]) => {
        const names = group.flatMap(({ session, stream }) => [
          ...pair(session, stream),
          keys.streams(session),
          keys.weights(session),
          keys.spare(session),
        ])
        return run(link, KEEP_ALL, names, [ttl, finishedTtl, ...group.map(({ stream }) => wellFormed(stream))])
      }
      await Promise.all((await grouped(streams)).map(keep))
    },

    async delete(session) {
      const index = keys.streams(session)
      const ofAll = [index, keys.weights(session), keys.spare(session)]
      const streams = await run(link, DELETE, [keys.deleted(session), index], [milliseconds(TOMBSTONE_TTL)])
      // From here on no stream is opened or appended to. Should this node die now, a second delete finds the same list; without
      // one, the keys expire.
      const beginnings = [...pair(session, ''), keys.batches(session, '')]
      const names = (Array.isArray(streams) ? streams : []).flatMap((name) =>
        beginnings.map((each) => `${each}${name}`),
      )
      await link.send(index, ['unlink', ...ofAll, ...names])
    },
  }
}

function infoOf(fields: unknown[]): StreamInfo {
  return { head: String(fields[6]), ...standingOf(fields) }
}

function standingOf([writer, reader, sent, ended, last, first]: unknown[]): StreamStanding {
  return {
    writer: typeof writer === 'string' ? writer : undefined,
    reader: typeof reader === 'string' ? reader : undefined,
    sent: typeof sent === 'string' ? Number(sent) : undefined,
    first: Number(first),
    last: Number(last),
    ended: ended !== null && ended !== undefined,
  }
}
