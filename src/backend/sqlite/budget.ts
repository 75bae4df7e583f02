/** What the streams of a session weigh together is kept by triggers of the schema; here is what goes when it is too much. */
import type Sqlite from 'better-sqlite3'
import { type Retention, STREAM_WEIGHT } from '../backend.js'

/** The events of a stream. */
interface Kept {
  first: number
  last: number
  /** UTF-16 code units of the events. */
  size: number
}

interface StreamEvents extends Kept {
  n: number
}

/** The statements on one connection. They are part of an append's transaction. */
export function prepareBudget(
  db: Sqlite.Database,
  { maxEvents, maxBytes, maxSessionBytes }: Required<Retention>,
  removeStream: (n: number) => void,
) {
  const countAppend = db
    .prepare<[string], number>(
      `INSERT INTO session_weights (session, total, appends) VALUES (?, 0, 1)
       ON CONFLICT (session) DO UPDATE SET appends = appends + 1 RETURNING appends`,
    )
    .pluck()
  const total = db.prepare<[string], number>('SELECT total FROM session_weights WHERE session = ?').pluck()
  const expired = db
    .prepare<[string, number], number>(
      'SELECT n FROM streams WHERE session = ? AND ended = 0 AND expires_at <= ? LIMIT 1',
    )
    .pluck()
  const endedFirst = db.prepare<[string, number], { n: number; emptied: 0 | 1 }>(
    `SELECT n, emptied FROM streams WHERE session = ? AND ended = 1 AND n <> ?
     ORDER BY emptied, appended LIMIT 1`,
  )
  // There are about as many of these as requests that run: they need no index, which would change with each append.
  const quietest = db.prepare<[string, number], StreamEvents>(
    `SELECT n, first, last, size FROM streams WHERE session = ? AND ended = 0 AND n <> ? AND first < last
     ORDER BY appended LIMIT 1`,
  )
  const sizes = db.prepare<[number], { position: number; size: number }>(
    'SELECT position, size FROM events WHERE stream = ? ORDER BY position',
  )
  const removeEvents = db.prepare<[number, number]>('DELETE FROM events WHERE stream = ? AND position < ?')
  const removeAllEvents = db.prepare<[number]>('DELETE FROM events WHERE stream = ?')
  const empty = db.prepare<[number]>(
    `UPDATE streams SET first = last + 1, size = 0, emptied = 1, weight = head_size + ${STREAM_WEIGHT} WHERE n = ?`,
  )
  const change = db.prepare<[number, number, number, number]>(
    `UPDATE streams SET first = ?, size = ?, weight = head_size + ${STREAM_WEIGHT} + ? WHERE n = ?`,
  )

  /** Removes the oldest events, but not the newest, until the rest is within these bounds. */
  function trim({ n, first, last, size }: StreamEvents, bounds: { events: number; bytes: number }): Kept {
    const isEnough = () => last - first < bounds.events && size <= bounds.bytes
    if (isEnough()) return { first, last, size }
    for (const event of sizes.iterate(n)) {
      if (event.position === last || isEnough()) break
      first = event.position + 1
      size -= event.size
    }
    removeEvents.run(n, first)
    return { first, last, size }
  }

  return {
    /** What of a stream is within its own bounds. */
    trim: (stream: StreamEvents): Kept => trim(stream, { events: maxEvents, bytes: maxBytes }),

    /** Which append of its session this is. */
    nextAppend: (session: string): number => countAppend.get(session) ?? 0,

    /** A stream was appended to, and its weight is set: what is too much goes. */
    appended(session: string, own: StreamEvents, time: number): void {
      const over = () => (total.get(session) ?? 0) - maxSessionBytes
      const trimOver = (stream: StreamEvents) => {
        const kept = trim(stream, { events: Number.POSITIVE_INFINITY, bytes: stream.size - over() })
        change.run(kept.first, kept.size, kept.size, stream.n)
      }
      while (over() > 0) {
        const n = expired.get(session, time)
        if (n === undefined) break
        removeStream(n)
      }
      while (over() > 0) {
        const next = endedFirst.get(session, own.n)
        if (!next) break
        if (next.emptied) removeStream(next.n)
        else {
          removeAllEvents.run(next.n)
          empty.run(next.n)
        }
      }
      while (over() > 0) {
        const next = quietest.get(session, own.n)
        if (!next) break
        trimOver(next)
      }
      if (over() > 0) trimOver(own)
    },
  }
}
