import type Database from 'better-sqlite3'

/** Rows of each table removed in one transaction: a few milliseconds at most, in which other writers wait. */
const BATCH = 200
/** How long a message stays for other processes to read. */
const MESSAGE_TTL = 15_000
/** Milliseconds between sweeps if nothing is left to remove, and if there is: then they outpace what writes can add. */
const REST = 1000
const BRIEF_REST = 5

/**
 * Removes what has expired, a little at a time, after writes: whoever adds rows also removes some, and an idle process does
 * nothing. Reads never see an expired row, so nothing depends on when it is removed.
 */
export class Sweeper {
  readonly #now: () => number
  readonly #sweep: () => boolean
  #next = Number.NEGATIVE_INFINITY

  constructor(db: Database.Database, now: () => number, sweepEvents: () => boolean) {
    this.#now = now
    const remove = (table: string, key: string) =>
      db.prepare<[number]>(
        `DELETE FROM ${table} WHERE ${key} IN (SELECT ${key} FROM ${table} WHERE expires_at <= ? LIMIT ${BATCH})`,
      )
    const tables = [remove('sessions', 'n'), remove('tombstones', 'id'), remove('nodes', 'id')]
    const oldest = db.prepare<[], { id: number; published_at: number }>(
      `SELECT id, published_at FROM messages ORDER BY id LIMIT ${BATCH}`,
    )
    const removeMessages = db.prepare<[number]>('DELETE FROM messages WHERE id <= ?')

    this.#sweep = () => {
      const time = now()
      let isMore = sweepEvents()
      for (const table of tables) if (table.run(time).changes === BATCH) isMore = true
      // By id and not by an index on the time, which every message would have to pay for.
      const old = oldest.all().filter((message) => message.published_at <= time - MESSAGE_TTL)
      const last = old.at(-1)
      if (last) removeMessages.run(last.id)
      return isMore || old.length === BATCH
    }
  }

  /** To be called after a write. */
  afterWrite(): void {
    const time = this.#now()
    if (time < this.#next) return
    this.#next = time + REST
    // Not at once: whoever has written need not wait for it.
    setImmediate(() => {
      try {
        if (this.#sweep()) this.#next = this.#now() + BRIEF_REST
      } catch {
        // Another process holds the lock, or the database was closed: a later write sweeps.
      }
    })
  }
}
