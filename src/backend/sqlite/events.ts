import type Database from 'better-sqlite3'
import {
  type EventBatch,
  type Retention,
  type StreamInfo,
  type StreamInit,
  type StreamSlice,
  TOMBSTONE_TTL,
} from '../backend.js'

/**
 * Batch ids remembered of one stream. A stream without a writer is written by several nodes at once: this is how many batches
 * the others may get in while one of them waits to send a batch again.
 */
const RECENT_BATCHES = 1000
/** How often older ones are removed, in batches: to find them takes a look at all of the stream's. */
const FORGET_EVERY = 128
/** Rows and streams removed in one transaction: a few milliseconds at most, in which other writers wait. */
const REMOVE = 500
const REMOVE_STREAMS = 50
const KEPT = `n, last + 1 - first + min(batches, ${RECENT_BATCHES + FORGET_EVERY}) AS kept`

interface StreamRow {
  n: number
  head: string
  writer: string | null
  reader: string | null
  first: number
  last: number
  size: number
  batches: number
  ended: 0 | 1
  sweepAt: number
}

/** The event log's statements on one connection, synchronous; each call is one transaction. */
export function prepareEvents(db: Database.Database, now: () => number, retention: Required<Retention>) {
  const isDeleted = db.prepare<[string, number], 1>('SELECT 1 FROM tombstones WHERE id = ? AND expires_at > ?').pluck()
  const bury = db.prepare<[string, number]>('INSERT OR REPLACE INTO tombstones (id, expires_at) VALUES (?, ?)')
  const find = db.prepare<[string, string, number], StreamRow>(
    `SELECT n, head, writer, reader, first, last, size, batches, ended, sweep_at AS sweepAt
     FROM streams WHERE session = ? AND stream = ? AND expires_at > ?`,
  )
  const findExpired = db
    .prepare<[string, string, number], number>(
      'SELECT n FROM streams WHERE session = ? AND stream = ? AND expires_at <= ?',
    )
    .pluck()
  const insert = db.prepare<[string, string, string, string | null, number, number, number, number]>(
    `INSERT INTO streams (session, stream, head, writer, first, last, expires_at, sweep_at, size, batches, ended)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0)`,
  )
  const advance = db.prepare<[number, number, number, number, number, number, number]>(
    'UPDATE streams SET first = ?, last = ?, size = ?, batches = ?, ended = ?, expires_at = ? WHERE n = ?',
  )
  const postponeSweep = db.prepare<[number, number]>('UPDATE streams SET sweep_at = ? WHERE n = ?')
  const setReader = db.prepare<[string, number]>('UPDATE streams SET reader = ? WHERE n = ?')
  const setWriter = db.prepare<[string, string, string, string, number]>(
    'UPDATE streams SET writer = ? WHERE session = ? AND stream = ? AND writer = ? AND ended = 0 AND expires_at > ?',
  )

  const insertEvent = db.prepare<[number, number, number, string]>(
    'INSERT INTO events (stream, position, size, data) VALUES (?, ?, ?, ?)',
  )
  const selectEvents = db.prepare<[number, number, number], { position: number; data: string }>(
    'SELECT position, data FROM events WHERE stream = ? AND position > ? ORDER BY position LIMIT ?',
  )
  const sizes = db.prepare<[number], { position: number; size: number }>(
    'SELECT position, size FROM events WHERE stream = ? ORDER BY position',
  )
  const removeEvents = db.prepare<[number, number]>('DELETE FROM events WHERE stream = ? AND position < ?')

  const seenBatch = db.prepare<[number, string], number>('SELECT last FROM batches WHERE stream = ? AND id = ?').pluck()
  const insertBatch = db.prepare<[number, number, string, number]>(
    'INSERT INTO batches (stream, n, id, last) VALUES (?, ?, ?, ?)',
  )
  const removeBatches = db.prepare<[number, number]>('DELETE FROM batches WHERE stream = ? AND n <= ?')

  const condemn = db.prepare<[string]>('UPDATE streams SET expires_at = 0, sweep_at = 0 WHERE session = ?')
  const condemned = db.prepare<[string], { n: number; kept: number }>(
    `SELECT ${KEPT} FROM streams WHERE session = ? AND expires_at = 0 LIMIT ${REMOVE_STREAMS}`,
  )
  const expired = db.prepare<[number], { n: number; kept: number }>(
    `SELECT ${KEPT} FROM streams WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ${REMOVE_STREAMS}`,
  )
  const condemnOne = db.prepare<[number]>('UPDATE streams SET expires_at = 0, sweep_at = 0 WHERE n = ?')
  const removeSomeEvents = db.prepare<[number, number]>(
    `DELETE FROM events WHERE stream = ? AND position IN
     (SELECT position FROM events WHERE stream = ? ORDER BY position LIMIT ${REMOVE})`,
  )
  const removeStream = db.prepare<[number]>('DELETE FROM streams WHERE n = ?')

  /** Milliseconds; at most one append in an eighth of the time to live changes the index. */
  const sweepAfter = Math.ceil(retention.ttl * 1.125)

  /** What of the stream stays: drops the oldest events until it is within its bounds. */
  function trim({ n, first }: StreamRow, last: number, size: number): { first: number; size: number } {
    const { maxEvents, maxBytes } = retention
    if (last - first < maxEvents && size <= maxBytes) return { first, size }
    for (const event of sizes.iterate(n)) {
      if (event.position === last || (last - first < maxEvents && size <= maxBytes)) break
      first = event.position + 1
      size -= event.size
    }
    removeEvents.run(n, first)
    return { first, size }
  }

  /** Removes a stream, or the part of it that one transaction may remove. True: there is more. */
  function removeSome(n: number): boolean {
    if (removeSomeEvents.run(n, n).changes === REMOVE) {
      // It must not come back in part, should the clock be set back.
      condemnOne.run(n)
      return true
    }
    removeBatches.run(n, Number.MAX_SAFE_INTEGER)
    removeStream.run(n)
    return false
  }

  /** The same for several. */
  function removeSomeOf(streams: { n: number; kept: number }[]): boolean {
    let rows = 0
    for (const { n, kept } of streams) {
      // One at least, however long it is.
      if (rows > 0 && rows + kept > REMOVE) return true
      if (removeSome(n)) return true
      rows += kept
    }
    return streams.length === REMOVE_STREAMS
  }

  return {
    open: db.transaction((session: string, stream: string, { head, writer, base = 0 }: StreamInit): boolean => {
      const time = now()
      if (isDeleted.get(session, time)) return false
      if (find.get(session, stream, time)) return true
      const old = findExpired.get(session, stream, time)
      while (old !== undefined && removeSome(old));
      insert.run(session, stream, head, writer ?? null, base + 1, base, time + retention.ttl, time + sweepAfter)
      return true
    }).immediate,

    append: db.transaction((session: string, stream: string, batch: EventBatch): number | undefined => {
      const time = now()
      const row = find.get(session, stream, time)
      if (!row) return undefined
      const before = seenBatch.get(row.n, batch.id)
      if (before !== undefined) return before
      if (row.ended || (row.writer !== null && row.writer !== batch.writer)) return undefined

      let { last, size } = row
      for (const data of batch.events) {
        insertEvent.run(row.n, ++last, data.length, data)
        size += data.length
      }
      const kept = trim(row, last, size)
      const batches = row.batches + 1
      insertBatch.run(row.n, batches, batch.id, last)
      if (batches % FORGET_EVERY === 0) removeBatches.run(row.n, batches - RECENT_BATCHES)
      advance.run(kept.first, last, kept.size, batches, batch.end ? 1 : 0, time + retention.ttl, row.n)
      if (time + retention.ttl > row.sweepAt) postponeSweep.run(time + sweepAfter, row.n)
      return last
    }).immediate,

    /** One read transaction, so that the events and the stream's standing are of one moment. */
    read: db.transaction((session: string, stream: string, after: number, limit: number): StreamSlice | undefined => {
      const row = find.get(session, stream, now())
      return row && { ...infoOf(row), events: selectEvents.all(row.n, after, limit) }
    }).deferred,

    attach: db.transaction((session: string, stream: string, reader: string): StreamInfo | undefined => {
      const row = find.get(session, stream, now())
      if (row) setReader.run(reader, row.n)
      return row && infoOf(row)
    }).immediate,

    claim(session: string, stream: string, writer: string, from: string): boolean {
      return setWriter.run(writer, session, stream, from, now()).changes === 1
    },

    /** From here on, a session's streams are out of sight and no new one is opened; {@link removeCondemned} removes them. */
    condemn: db.transaction((session: string): void => {
      bury.run(session, now() + TOMBSTONE_TTL)
      condemn.run(session)
    }).immediate,

    /** Removes a part of what was condemned of a session. True: there is more. */
    removeCondemned: db.transaction((session: string): boolean => removeSomeOf(condemned.all(session))).immediate,

    /** Removes a part of the streams that have expired. True: there is more. */
    sweep: db.transaction((): boolean => removeSomeOf(expired.all(now()))).immediate,
  }
}

function infoOf({ head, writer, reader, first, last, ended }: StreamRow): StreamInfo {
  return { head, writer: writer ?? undefined, reader: reader ?? undefined, first, last, ended: ended === 1 }
}
