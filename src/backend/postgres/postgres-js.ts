/** Connections made with `postgres` (postgres.js). */
import { within } from '../../util/within.js'
import {
  APPLICATION,
  type Client,
  CONNECT_TIMEOUT,
  closedError,
  type Listening,
  POOL_SIZE,
  QUERY_TIMEOUT,
  texts,
  type Value,
} from './connection.js'

// The parts of the library that are used, so that it need not be installed for our types.

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

/** What is used of the module `postgres`. */
export type MakeSql = (
  url: string,
  options: PostgresJsOptions,
) => PostgresJs & { end(options: { timeout: number }): Promise<void> }

/** A client on a `sql` that is made here. */
export function clientForPostgresJs(postgres: MakeSql, url: string): Client {
  const sql = postgres(url, {
    max: POOL_SIZE,
    connect_timeout: CONNECT_TIMEOUT / 1000,
    // In seconds. The library's own pauses grow to 20 s, and queries wait for them.
    backoff: (retries) => Math.min(1, 0.05 * 2 ** retries) * (0.5 + Math.random() / 2),
    connection: { application_name: APPLICATION },
    onnotice: () => {},
  })
  return { ...clientForSql(sql), close: () => sql.end({ timeout: 5 }) }
}

/** A client on a `sql` that the user made. */
export function clientForSql(sql: PostgresJs): Client {
  return {
    async query(text, values, limit = QUERY_TIMEOUT) {
      // Prepared, because the library needs two round trips for a statement that is not. A user whose pooler cannot have that
      // has switched it off when making `sql`.
      const answer = sql.unsafe(text, [...values], { prepare: true }).values()
      // The library itself would wait forever, for a connection as well as for an answer.
      const rows = await within(limit, answer)
      return rows.map(texts)
    },
    listen: (channel, onPayload) => listenOn(sql, channel, onPayload),
    close: async () => {},
  }
}

/**
 * postgres.js has a listening connection of its own and connects it again by itself. It does so even after a `listen` that was
 * rejected, so there is only ever one: a second one would receive everything twice.
 */
function listenOn(sql: PostgresJs, channel: string, onPayload: (payload: string) => void): Listening {
  let listening: Promise<{ unlisten(): Promise<void> }> | undefined
  let closed = false
  return {
    async ready() {
      if (closed) throw closedError()
      if (listening) return
      listening = sql.listen(channel, (payload) => {
        if (!closed) onPayload(payload)
      })
      await within(QUERY_TIMEOUT, listening)
    },
    async close() {
      closed = true
      const last = await listening?.catch(() => undefined)
      await last?.unlisten().catch(() => {})
    },
  }
}
