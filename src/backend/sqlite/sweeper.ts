import type Sqlite from 'better-sqlite3'
import type { Database } from './database.js'
import { prepareRemoval } from './removal.js'

/** Rows of each table removed in one transaction: it takes a few milliseconds at most, in which other processes cannot write. */
const BATCH = 200
/** How long a message stays for other processes to read, in milliseconds. */
const MESSAGE_TTL = 15_000
/** Milliseconds between sweeps, when nothing is left to remove. */
const INTERVAL = 1000
/** The same when something is left: short enough that sweeps remove more than writes can add. */
const BUSY_INTERVAL = 5

/**
 * Removes what has expired, a little at a time, after writes: a process that adds rows also removes some, and an idle one does
 * nothing. When a row is removed does not matter to anybody, because reads do not see expired rows.
 */
export function startSweeper(database: Database): void {
  const { now } = database
  let prepared: { on: Sqlite.Database; sweep: () => boolean } | undefined
  let nextAt = Number.NEGATIVE_INFINITY

  database.afterWrite(({ quick }) => {
    const time = now()
    if (time < nextAt) return
    nextAt = time + INTERVAL
    // Later, so that the caller of the write does not wait for it.
    setImmediate(() => {
      try {
        if (prepared?.on !== quick) prepared = { on: quick, sweep: prepare(quick, now) }
        if (prepared.sweep()) nextAt = now() + BUSY_INTERVAL
      } catch {
        // Another process holds the lock, or the file was closed: a later write sweeps.
      }
    })
  })
}

/** Returns the function that removes a part of what has expired; true: there is more. */
function prepare(db: Sqlite.Database, now: () => number): () => boolean {
  const { removeExpired: removeExpiredStreams } = prepareRemoval(db, now)
  const remove = (table: string, key: string) =>
    db.prepare<[number]>(
      `DELETE FROM ${table} WHERE ${key} IN (SELECT ${key} FROM ${table} WHERE expires_at <= ? LIMIT ${BATCH})`,
    )
  const tables = [remove('sessions', 'n'), remove('tombstones', 'id'), remove('nodes', 'id')]
  const oldestMessages = db.prepare<[], { id: number; published_at: number }>(
    `SELECT id, published_at FROM messages ORDER BY id LIMIT ${BATCH}`,
  )
  const removeMessages = db.prepare<[number]>('DELETE FROM messages WHERE id <= ?')

  return () => {
    const time = now()
    let isMore = removeExpiredStreams()
    for (const table of tables) if (table.run(time).changes === BATCH) isMore = true
    // By id: an index on the time would make each message cost more.
    const old = oldestMessages.all().filter((message) => message.published_at <= time - MESSAGE_TTL)
    const last = old.at(-1)
    if (last) removeMessages.run(last.id)
    return isMore || old.length === BATCH
  }
}
