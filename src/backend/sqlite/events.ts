import { setImmediate as nextTurn } from 'node:timers/promises'
import type Sqlite from 'better-sqlite3'
import {
  BATCH_TTL,
  type EventBatch,
  type EventLog,
  RECENT_BATCHES,
  type Retention,
  STREAM_WEIGHT,
  type StreamInfo,
  type StreamInit,
  type StreamName,
  type StreamSlice,
  type StreamStanding,
} from '../backend.js'
import { keptFor } from '../options.js'
import { prepareBudget } from './budget.js'
import type { Database } from './database.js'
import { FORGET_EVERY, prepareRemoval } from './removal.js'

export function eventLog(database: Database, retention: Required<Retention>): EventLog {
  const { read, write } = database.statements(({ quick }) => prepare(quick, database.now, retention))

  return {
    ttl: retention.ttl,
    open: (session, stream, init) => write((log) => log.open(session, stream, init)),
    append: (session, stream, batch) => write((log) => log.append(session, stream, batch)),
    read: (session, stream, after, limit) => read((log) => log.read(session, stream, after, limit)),
    attach: (session, stream, reader) => write((log) => log.attach(session, stream, reader)),
    sent: (session, stream, position) => write((log) => log.sent(session, stream, position)),
    claim: (session, stream, writer, from) => write((log) => log.claim(session, stream, writer, from)),
    look: (streams) => read((log) => log.look(streams)),
    keep: (streams) => write((log) => log.keep(streams)),

    async delete(session) {
      await write((log) => log.hide(session))
      // In parts, so that others can write in between. Should this process die now, sweeping removes the rest.
      while (await write((log) => log.removeHidden(session))) await nextTurn()
    },
  }
}

interface StandingRow {
  writer: string | null
  reader: string | null
  sent: number | null
  first: number
  last: number
  ended: 0 | 1
}

interface StreamRow extends StandingRow {
  n: number
  head: string
  size: number
  /** How many there ever were, of a stream without a writer. */
  batches: number
  /** The last one of a stream with a writer. */
  batch: string | null
  sweepAt: number
}

/** The statements on one connection. They are synchronous, and each call is one transaction. */
function prepare(db: Sqlite.Database, now: () => number, retention: Required<Retention>) {
  const isDeleted = db.prepare<[string, number], 1>('SELECT 1 FROM tombstones WHERE id = ? AND expires_at > ?').pluck()
  const find = db.prepare<[string, string, number], StreamRow>(
    `SELECT n, head, writer, reader, sent, first, last, size, batches, batch, ended, sweep_at AS sweepAt
     FROM streams WHERE session = ? AND stream = ? AND expires_at > ?`,
  )
  // Without the head, which may be big.
  const findStanding = db.prepare<[string, string, number], StandingRow>(
    `SELECT writer, reader, sent, first, last, ended FROM streams WHERE session = ? AND stream = ? AND expires_at > ?`,
  )
  const findExpired = db
    .prepare<[string, string, number], number>(
      'SELECT n FROM streams WHERE session = ? AND stream = ? AND expires_at <= ?',
    )
    .pluck()
  const insert = db.prepare<[string, string, string, number, string | null, number, number, number, number]>(
    `INSERT INTO streams
       (session, stream, head, head_size, writer, first, last, expires_at, sweep_at, size, batches, ended)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0)`,
  )
  const advance = db.prepare<{
    n: number
    first: number
    last: number
    size: number
    batches: number
    batch: string | null
    ended: 0 | 1
    appended: number
  }>(
    `UPDATE streams SET first = @first, last = @last, size = @size, batches = @batches, batch = @batch,
       ended = @ended, emptied = @ended AND @first > @last, appended = @appended,
       weight = head_size + ${STREAM_WEIGHT} + @size
     WHERE n = @n`,
  )
  const setExpiry = db.prepare<[number, number]>('UPDATE streams SET expires_at = ? WHERE n = ?')
  const setSweep = db.prepare<[number, number]>('UPDATE streams SET sweep_at = ? WHERE n = ?')
  const setReader = db.prepare<[string, number]>('UPDATE streams SET reader = ? WHERE n = ?')
  const setSent = db.prepare<[number, string, string]>(
    'UPDATE streams SET sent = max(coalesce(sent, 0), ?) WHERE session = ? AND stream = ?',
  )
  const setWriter = db.prepare<[string, string, string, string, number]>(
    'UPDATE streams SET writer = ? WHERE session = ? AND stream = ? AND writer = ? AND ended = 0 AND expires_at > ?',
  )

  const insertEvent = db.prepare<[number, number, number, string]>(
    'INSERT INTO events (stream, position, size, data) VALUES (?, ?, ?, ?)',
  )
  const selectEvents = db.prepare<[number, number, number], { position: number; data: string }>(
    'SELECT position, data FROM events WHERE stream = ? AND position > ? ORDER BY position LIMIT ?',
  )
  const removeEvents = db.prepare<[number, number]>('DELETE FROM events WHERE stream = ? AND position < ?')

  const seenBatch = db.prepare<[number, string], number>('SELECT last FROM batches WHERE stream = ? AND id = ?').pluck()
  const insertBatch = db.prepare<[number, number, string, number, number]>(
    'INSERT INTO batches (stream, n, id, last, at) VALUES (?, ?, ?, ?, ?)',
  )
  const removeBatches = db.prepare<[number, number, number]>(
    'DELETE FROM batches WHERE stream = ? AND (n <= ? OR at <= ?)',
  )

  const { removePart, hide, removeHidden } = prepareRemoval(db, now)
  const remove = (n: number) => {
    while (removePart(n));
  }
  const budget = prepareBudget(db, retention, remove)

  /**
   * Keeps a stream from expiring. It is swept up to an eighth of its time to live later than it expires, so that `sweep_at`,
   * which has an index, need not be changed at each append but only once in that eighth.
   */
  function keep({ n, sweepAt }: Pick<StreamRow, 'n' | 'sweepAt'>, ended: boolean, time: number): void {
    const ttl = keptFor(retention, ended)
    const latest = time + sweepAfter(ttl)
    setExpiry.run(time + ttl, n)
    if (time + ttl > sweepAt || sweepAt > latest) setSweep.run(latest, n)
  }

  /** The position that a batch resolved with when it was appended before. */
  function seen({ n, writer, batch, last }: StreamRow, id: string): number | undefined {
    if (writer === null) return seenBatch.get(n, id)
    return batch === id ? last : undefined
  }

  return {
    open: db.transaction((session: string, stream: string, { head, writer, base = 0 }: StreamInit): boolean => {
      const time = now()
      if (isDeleted.get(session, time)) return false
      if (find.get(session, stream, time)) return true
      const old = findExpired.get(session, stream, time)
      if (old !== undefined) remove(old)
      insert.run(
        session,
        stream,
        head,
        head.length,
        writer ?? null,
        base + 1,
        base,
        time + retention.ttl,
        time + sweepAfter(retention.ttl),
      )
      return true
    }).immediate,

    append: db.transaction((session: string, stream: string, batch: EventBatch): number | undefined => {
      const time = now()
      const row = find.get(session, stream, time)
      if (!row) return undefined
      const before = seen(row, batch.id)
      if (before !== undefined) return before
      if (row.ended || (row.writer !== null && row.writer !== batch.writer)) return undefined

      let { first, last, size, batches } = row
      const isKnown = batch.events.length > 0 || batch.end === true
      if (isKnown && row.writer !== null && batch.after !== undefined && batch.after < last) return undefined
      if (batch.after !== undefined && batch.after > last) {
        last = batch.after
        first = last + 1
        size = 0
        removeEvents.run(row.n, first)
      }
      for (const data of batch.events) {
        insertEvent.run(row.n, ++last, data.length, data)
        size += data.length
      }
      const kept = { n: row.n, ...budget.trim({ n: row.n, first, last, size }) }
      if (isKnown && row.writer === null) {
        insertBatch.run(row.n, ++batches, batch.id, last, time)
        if (batches % FORGET_EVERY === 0) removeBatches.run(row.n, batches - RECENT_BATCHES, time - BATCH_TTL)
      }
      advance.run({
        ...kept,
        batches,
        batch: isKnown ? batch.id : row.batch,
        ended: batch.end ? 1 : 0,
        appended: budget.nextAppend(session),
      })
      keep(row, batch.end ?? false, time)
      budget.appended(session, kept, time)
      return last
    }).immediate,

    /** One transaction, so that the events and what is said of the stream are of one moment. */
    read: db.transaction((session: string, stream: string, after: number, limit: number): StreamSlice | undefined => {
      const row = find.get(session, stream, now())
      return row && { ...infoOf(row), events: selectEvents.all(row.n, after, limit) }
    }).deferred,

    attach: db.transaction((session: string, stream: string, reader: string): StreamInfo | undefined => {
      const row = find.get(session, stream, now())
      if (row) setReader.run(reader, row.n)
      return row && infoOf(row)
    }).immediate,

    sent(session: string, stream: string, position: number): void {
      setSent.run(position, session, stream)
    },

    claim(session: string, stream: string, writer: string, from: string): boolean {
      return setWriter.run(writer, session, stream, from, now()).changes === 1
    },

    /** A statement for each, which in this process costs no more than one for all. */
    look: db.transaction((streams: readonly StreamName[]): (StreamStanding | undefined)[] => {
      const time = now()
      return streams.map(({ session, stream }) => {
        const row = findStanding.get(session, stream, time)
        return row && standingOf(row)
      })
    }).deferred,

    keep: db.transaction((streams: readonly StreamName[]): void => {
      const time = now()
      for (const { session, stream } of streams) {
        const row = find.get(session, stream, time)
        if (row) keep(row, row.ended === 1, time)
      }
    }).immediate,

    hide,
    removeHidden,
  }
}

/** In milliseconds: how long after an append a stream may be swept. */
function sweepAfter(ttl: number): number {
  return Math.ceil(ttl * 1.125)
}

function infoOf({ head, ...row }: StreamRow): StreamInfo {
  return { head, ...standingOf(row) }
}

function standingOf({ writer, reader, sent, first, last, ended }: StandingRow): StreamStanding {
  const named = { writer: writer ?? undefined, reader: reader ?? undefined, sent: sent ?? undefined }
  return { ...named, first, last, ended: ended === 1 }
}
