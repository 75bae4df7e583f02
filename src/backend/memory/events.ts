import {
  BATCH_TTL,
  type EventBatch,
  type EventLog,
  RECENT_BATCHES,
  type Retention,
  type StreamInfo,
  type StreamStanding,
  TOMBSTONE_TTL,
} from '../backend.js'
import { keptFor } from '../options.js'
import { Budget, type Budgeted, dropTo } from './budget.js'
import { type Clock, ExpiringMap } from './expiring-map.js'

interface StoredStream extends StreamInfo, Budgeted {
  stream: string
  /** The last position of each batch that is known, and when it was appended, oldest first: of a stream with a writer one. */
  batches: Map<string, { last: number; at: number }>
}

/** The streams of a session. */
class Streams extends ExpiringMap<StoredStream> {
  readonly budget: Budget<StoredStream>

  constructor(now: Clock, maxSessionBytes: number) {
    super(now, (stored) => this.budget.forget(stored))
    this.budget = new Budget(maxSessionBytes, ({ stream }) => this.delete(stream))
  }
}

export function eventLog(now: Clock, tombstones: ExpiringMap<true>, retention: Required<Retention>): EventLog {
  // By session, then by stream, so that no two ids are ever joined to one key. A session's entry expires with its last stream.
  const sessions = new ExpiringMap<Streams>(now)
  const find = (session: string, stream: string) => sessions.get(session)?.get(stream)

  function keep(session: string, stored: StoredStream): Streams {
    const streams = sessions.get(session) ?? new Streams(now, retention.maxSessionBytes)
    streams.set(stored.stream, stored, keptFor(retention, stored.ended))
    sessions.set(session, streams, retention.ttl)
    return streams
  }

  function remember({ batches, writer, last }: StoredStream, id: string): void {
    const at = now()
    if (writer !== undefined) batches.clear()
    batches.set(id, { last, at })
    for (const [oldest, batch] of batches) {
      if (batches.size <= RECENT_BATCHES && at - batch.at < BATCH_TTL) break
      batches.delete(oldest)
    }
  }

  function add(stored: StoredStream, events: readonly string[]): void {
    for (const event of events) {
      stored.events.push(event)
      stored.size += event.length
    }
    stored.last += events.length
    let kept = Math.min(stored.events.length, retention.maxEvents)
    dropTo(stored, kept)
    let { size } = stored
    for (const event of stored.events) {
      if (size <= retention.maxBytes || kept <= 1) break
      size -= event.length
      kept--
    }
    dropTo(stored, kept)
  }

  return {
    ttl: retention.ttl,

    async open(session, stream, { head, writer, base = 0 }) {
      if (tombstones.get(session)) return false
      if (find(session, stream)) return true
      const info = { head, writer, reader: undefined, sent: undefined, first: base + 1, last: base, ended: false }
      keep(session, { ...info, stream, events: [], size: 0, batches: new Map() })
      return true
    },

    async append(session, stream, batch) {
      const stored = find(session, stream)
      if (!stored) return undefined
      const before = stored.batches.get(batch.id)
      if (before !== undefined) return before.last
      if (stored.ended || (stored.writer !== undefined && stored.writer !== batch.writer)) return undefined
      const isKnown = batch.events.length > 0 || batch.end === true
      if (isKnown && isLate(stored, batch)) return undefined
      if (batch.after !== undefined && batch.after > stored.last) {
        Object.assign(stored, { events: [], size: 0, first: batch.after + 1, last: batch.after })
      }
      add(stored, batch.events)
      if (batch.end) stored.ended = true
      if (isKnown) remember(stored, batch.id)
      keep(session, stored).budget.appended(stored)
      return stored.last
    },

    async read(session, stream, after, limit) {
      const stored = find(session, stream)
      if (!stored) return undefined
      const from = Math.max(after + 1, stored.first)
      const start = from - stored.first
      const events = stored.events.slice(start, start + limit).map((data, index) => ({ position: from + index, data }))
      return { ...infoOf(stored), events }
    },

    async attach(session, stream, reader) {
      const stored = find(session, stream)
      if (!stored) return undefined
      const before = infoOf(stored)
      stored.reader = reader
      return before
    },

    async sent(session, stream, position) {
      const stored = find(session, stream)
      if (stored) stored.sent = Math.max(stored.sent ?? 0, position)
    },

    async claim(session, stream, writer, from) {
      const stored = find(session, stream)
      if (!stored || stored.ended || stored.writer !== from) return false
      stored.writer = writer
      return true
    },

    async look(streams) {
      return streams.map(({ session, stream }) => {
        const stored = find(session, stream)
        return stored && standingOf(stored)
      })
    },

    async keep(streams) {
      for (const { session, stream } of streams) {
        const stored = find(session, stream)
        if (stored) keep(session, stored)
      }
    },

    async delete(session) {
      tombstones.set(session, true, TOMBSTONE_TTL)
      sessions.delete(session)
    },
  }
}

/** It was sent before what the stream holds now, by a writer that has gone on since. */
function isLate({ writer, last }: StoredStream, { after }: EventBatch): boolean {
  return writer !== undefined && after !== undefined && after < last
}

function infoOf(stored: StoredStream): StreamInfo {
  return { head: stored.head, ...standingOf(stored) }
}

function standingOf({ writer, reader, sent, first, last, ended }: StoredStream): StreamStanding {
  return { writer, reader, sent, first, last, ended }
}
