import { type EventLog, RECENT_BATCHES, type Retention, type StreamInfo, TOMBSTONE_TTL } from '../backend.js'
import { type Clock, ExpiringMap } from './expiring-map.js'

interface StoredStream extends StreamInfo {
  /** From position `first` on. */
  events: string[]
  /** UTF-16 code units of the events. */
  size: number
  /** Last position of each recent batch, oldest first. */
  batches: Map<string, number>
}

export function eventLog(now: Clock, tombstones: ExpiringMap<true>, retention: Required<Retention>): EventLog {
  // By session, then by stream, so that no two ids are ever joined to one key. A session's entry expires with its last stream.
  const sessions = new ExpiringMap<ExpiringMap<StoredStream>>(now)
  const find = (session: string, stream: string) => sessions.get(session)?.get(stream)

  function keep(session: string, stream: string, stored: StoredStream): void {
    const streams = sessions.get(session) ?? new ExpiringMap<StoredStream>(now)
    streams.set(stream, stored, retention.ttl)
    sessions.set(session, streams, retention.ttl)
  }

  function add(stored: StoredStream, events: readonly string[]): void {
    for (const event of events) {
      stored.events.push(event)
      stored.size += event.length
    }
    stored.last += events.length
    let drop = Math.max(0, stored.events.length - retention.maxEvents)
    for (const event of stored.events.slice(0, drop)) stored.size -= event.length
    while (stored.size > retention.maxBytes && drop < stored.events.length - 1) {
      stored.size -= stored.events[drop]!.length
      drop++
    }
    if (drop > 0) stored.events.splice(0, drop)
    stored.first += drop
  }

  return {
    ttl: retention.ttl,

    async open(session, stream, { head, writer, base = 0 }) {
      if (tombstones.get(session)) return false
      if (find(session, stream)) return true
      const info = { head, writer, reader: undefined, sent: undefined, first: base + 1, last: base, ended: false }
      keep(session, stream, { ...info, events: [], size: 0, batches: new Map() })
      return true
    },

    async append(session, stream, batch) {
      const stored = find(session, stream)
      if (!stored) return undefined
      const before = stored.batches.get(batch.id)
      if (before !== undefined) return before
      if (stored.ended || (stored.writer !== undefined && stored.writer !== batch.writer)) return undefined
      if (batch.after !== undefined && batch.after > stored.last) {
        Object.assign(stored, { events: [], size: 0, first: batch.after + 1, last: batch.after })
      }
      add(stored, batch.events)
      if (batch.end) stored.ended = true
      stored.batches.set(batch.id, stored.last)
      if (stored.batches.size > RECENT_BATCHES) {
        for (const oldest of stored.batches.keys()) {
          stored.batches.delete(oldest)
          break
        }
      }
      keep(session, stream, stored)
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

    async delete(session) {
      tombstones.set(session, true, TOMBSTONE_TTL)
      sessions.delete(session)
    },
  }
}

function infoOf({ head, writer, reader, sent, first, last, ended }: StoredStream): StreamInfo {
  return { head, writer, reader, sent, first, last, ended }
}
