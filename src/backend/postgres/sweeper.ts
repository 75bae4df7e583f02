import type { Database } from './database.js'

/** Rows removed of one table in one statement. */
const BATCH = 500
/** Milliseconds between sweeps, on average, of one node. */
const INTERVAL = 15_000

/**
 * Removes expired rows now and then; they are invisible before that. Nodes that find another one at it leave it alone.
 * Returns the way to end it.
 */
export function startSweeper(database: Database): () => void {
  let timer: NodeJS.Timeout | undefined
  let stopped = false

  const sweep = async () => {
    // Whoever uses nothing needs no connection.
    for (let more = database.used; more && !stopped; ) {
      const [row] = await database.query(`select ${database.schema}.sweep($1)::text`, [BATCH])
      more = Number(row?.[0]) >= BATCH
    }
  }
  const next = () => {
    if (stopped) return
    // Scattered, so that nodes started together do not sweep together.
    timer = setTimeout(
      () =>
        sweep()
          .catch(() => {})
          .finally(next),
      INTERVAL * (0.5 + Math.random()),
    )
    timer.unref()
  }
  next()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}
