import type { Database } from './database.js'

/** Rows of each table removed in one statement. */
const BATCH = 500
/** Milliseconds between sweeps of one node, on average. */
const INTERVAL = 15_000

/**
 * Removes what has expired, now and then. When a row is removed does not matter to anybody, because reads do not see expired
 * rows. A node that finds another one sweeping leaves it to that one. Returns a function that ends the sweeping.
 */
export function startSweeper(database: Database): () => void {
  let timer: NodeJS.Timeout | undefined
  let stopped = false

  const sweep = async () => {
    // A backend that nobody has used yet should not connect for this.
    for (let isMore = database.used; isMore && !stopped; ) {
      const [row] = await database.query(`select ${database.schema}.sweep($1)::text`, [BATCH])
      isMore = Number(row?.[0]) >= BATCH
    }
  }

  const sweepLater = () => {
    if (stopped) return
    // Random, so that nodes that were started together do not sweep together.
    timer = setTimeout(
      async () => {
        // If this fails, the next sweep removes the same rows.
        await sweep().catch(() => {})
        sweepLater()
      },
      INTERVAL * (0.5 + Math.random()),
    )
    timer.unref()
  }

  sweepLater()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}
