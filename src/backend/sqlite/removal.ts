/** How streams are removed: in parts, because other processes cannot write while a transaction removes rows. */
import type Sqlite from 'better-sqlite3'
import { RECENT_BATCHES, TOMBSTONE_TTL } from '../backend.js'

/** How often old batch ids of a stream are removed, in batches: finding them means looking at all batch ids of the stream. */
export const FORGET_EVERY = 128

/** Rows, and streams, removed in one transaction: it takes a few milliseconds at most. */
const ROWS = 500
const STREAMS = 50

/** Columns of a {@link Candidate}. */
const CANDIDATE = `n, last + 1 - first + min(batches, ${RECENT_BATCHES + FORGET_EVERY}) AS rows`

interface Candidate {
  n: number
  /** At most so many rows go with the stream. */
  rows: number
}

/** The statements on one connection. They are synchronous, and each call is one transaction. */
export function prepareRemoval(db: Sqlite.Database, now: () => number) {
  const insertTombstone = db.prepare<[string, number]>(
    'INSERT OR REPLACE INTO tombstones (id, expires_at) VALUES (?, ?)',
  )
  const hideAll = db.prepare<[string]>('UPDATE streams SET expires_at = 0, sweep_at = 0 WHERE session = ?')
  const hideOne = db.prepare<[number]>('UPDATE streams SET expires_at = 0, sweep_at = 0 WHERE n = ?')
  const hidden = db.prepare<[string], Candidate>(
    `SELECT ${CANDIDATE} FROM streams WHERE session = ? AND expires_at = 0 LIMIT ${STREAMS}`,
  )
  const expired = db.prepare<[number], Candidate>(
    `SELECT ${CANDIDATE} FROM streams WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ${STREAMS}`,
  )
  const removeEvents = db.prepare<[number, number]>(
    `DELETE FROM events WHERE stream = ? AND position IN
     (SELECT position FROM events WHERE stream = ? ORDER BY position LIMIT ${ROWS})`,
  )
  const removeBatches = db.prepare<[number]>('DELETE FROM batches WHERE stream = ?')
  const removeStream = db.prepare<[number]>('DELETE FROM streams WHERE n = ?')

  /** Removes a stream, or as much of it as one transaction may. True: there is more. */
  function removePart(n: number): boolean {
    if (removeEvents.run(n, n).changes === ROWS) {
      // A clock that is set back must not bring the rest of the stream back.
      hideOne.run(n)
      return true
    }
    removeBatches.run(n)
    removeStream.run(n)
    return false
  }

  /** The same for several streams. */
  function removePartOf(streams: Candidate[]): boolean {
    let removed = 0
    for (const { n, rows } of streams) {
      // The first one is begun however many rows it has.
      if (removed > 0 && removed + rows > ROWS) return true
      if (removePart(n)) return true
      removed += rows
    }
    return streams.length === STREAMS
  }

  return {
    removePart,

    /** Hides all streams of a session and keeps new ones from being opened; {@link removeHidden} removes them. */
    hide: db.transaction((session: string): void => {
      insertTombstone.run(session, now() + TOMBSTONE_TTL)
      hideAll.run(session)
    }).immediate,

    /** Removes a part of a session's hidden streams. True: there is more. */
    removeHidden: db.transaction((session: string): boolean => removePartOf(hidden.all(session))).immediate,

    /** Removes a part of the streams that have expired. True: there is more. */
    removeExpired: db.transaction((): boolean => removePartOf(expired.all(now()))).immediate,
  }
}
