/** Connections made with `postgres` (postgres.js). */
import { within } from '../../util/within.js'
import {
  APPLICATION,
  type Client,
  CONNECT_TIMEOUT,
  type Listening,
  POOL_SIZE,
  QUERY_TIMEOUT,
  texts,
  type Value,
} from './connection.js'

// The parts of the library that we use, so that it need not be installed for our types.

interface SqlQuery {
  values(): PromiseLike<readonly unknown[][]>
}

/** What is used of a postgres.js `sql`. */
export interface PostgresJs {
  unsafe(text: string, values: Value[], options: { prepare: boolean }): SqlQuery
  listen(channel: string, heard: (payload: string) => void): Promise<{ unlisten(): Promise<void> }>
}

interface PostgresJsOptions {
  max: number
  connect_timeout: number
  backoff: (retries: number) => number
  connection: { application_name: string }
  onnotice: () => void
}

export type MakeSql = (
  url: string,
  options: PostgresJsOptions,
) => PostgresJs & { end(options: { timeout: number }): Promise<void> }

export function ownSql(postgres: MakeSql, url: string): Client {
  const sql = postgres(url, {
    max: POOL_SIZE,
    connect_timeout: CONNECT_TIMEOUT / 1000,
    // Its default waits up to 20 s, and queries with it.
    backoff: (retries) => Math.min(1, 0.05 * 2 ** retries) * (0.5 + Math.random() / 2),
    connection: { application_name: APPLICATION },
    onnotice: () => {},
  })
  return { ...sqlClient(sql), close: () => sql.end({ timeout: 5 }) }
}

export function sqlClient(sql: PostgresJs): Client {
  return {
    async query(text, values, limit = QUERY_TIMEOUT) {
      // Unprepared statements would take it two round trips. Who must not prepare has said so when making `sql`.
      const answer = sql.unsafe(text, [...values], { prepare: true }).values()
      // It would wait forever, for a connection as for an answer.
      const rows = await within(limit, answer)
      return rows.map(texts)
    },
    listen: (channel, heard) => listenWithSql(sql, channel, heard),
    close: async () => {},
  }
}

/**
 * postgres.js keeps its listening connection to itself, and connects it again on its own: also when the first `listen` was
 * rejected, so that a second one would hear everything twice.
 */
function listenWithSql(sql: PostgresJs, channel: string, heard: (payload: string) => void): Listening {
  let first: Promise<{ unlisten(): Promise<void> }> | undefined
  let closed = false
  return {
    async ready() {
      if (closed) throw new Error('postgres: closed')
      if (first) return
      first = sql.listen(channel, (payload) => {
        if (!closed) heard(payload)
      })
      await within(QUERY_TIMEOUT, first)
    },
    async close() {
      closed = true
      const listening = await first?.catch(() => undefined)
      await listening?.unlisten().catch(() => {})
    },
  }
}
