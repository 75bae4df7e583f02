/** Connections made with `postgres` (postgres.js). */
import { within } from '../../util/within.js'
import {
  APPLICATION,
  type Client,
  CONNECT_TIMEOUT,
  LINE_CONNECT_TIMEOUT,
  LINE_END_TIMEOUT,
  type Line,
  type LineEvents,
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
  /** What it was made with. */
  readonly options: object
}

/** A `sql` that was made here. */
type OwnSql = PostgresJs & { end(options: { timeout: number }): Promise<void> }

/** What is used of the module `postgres`. */
export interface MakeSql {
  (url: string, options: object): OwnSql
  (options: object): OwnSql
}

const OPTIONS = {
  // In seconds. The library's own pauses grow to 20 s, and queries wait for them.
  backoff: (retries: number) => Math.min(1, 0.05 * 2 ** retries) * (0.5 + Math.random() / 2),
  connection: { application_name: APPLICATION },
  onnotice: () => {},
}

/** A client on a `sql` that is made here. */
export function clientForPostgresJs(postgres: MakeSql, url: string): Client {
  const sql = postgres(url, { ...OPTIONS, max: POOL_SIZE, connect_timeout: CONNECT_TIMEOUT / 1000 })
  return {
    ...clientForSql(sql, async () => postgres),
    close: () => sql.end({ timeout: 5 }),
  }
}

/**
 * A client on a `sql` that the user made. Its own `listen` is of no use: it cannot be asked whether its connection is alive, nor
 * told to replace it. So connections that listen are made here, with the options of the user's.
 */
export function clientForSql(sql: PostgresJs, library: () => Promise<MakeSql>): Client {
  return {
    async query(text, values, limit = QUERY_TIMEOUT) {
      // Prepared, because the library needs two round trips for a statement that is not. A user whose pooler cannot have that
      // has switched it off when making `sql`.
      const answer = sql.unsafe(text, [...values], { prepare: true }).values()
      // The library itself would wait forever, for a connection as well as for an answer.
      const rows = await within(limit, answer)
      return rows.map(texts)
    },
    connect: async (events) => connect(await library(), sql.options, events),
    close: async () => {},
  }
}

/** A `sql` of a single connection. It is dropped when the connection is lost, because by itself it would make another one. */
async function connect(postgres: MakeSql, options: object, { notified, lost }: LineEvents): Promise<Line> {
  const sql = postgres({
    // Like the library does it for its own `listen`.
    ...options,
    max: 1,
    idle_timeout: null,
    max_lifetime: null,
    fetch_types: false,
    connect_timeout: LINE_CONNECT_TIMEOUT / 1000,
    onnotify: notified,
    onclose: lost,
  })
  const line: Line = {
    async run(statements, limit) {
      const answer = await within(limit, sql.unsafe(statements.join(';'), [], { prepare: false }).values())
      const last = statements.length > 1 ? (answer.at(-1) as unknown as typeof answer) : answer
      return last.map(texts)
    },
    async query(text, values, limit) {
      const rows = await within(limit, sql.unsafe(text, [...values], { prepare: true }).values())
      return rows.map(texts)
    },
    drop: () => within(LINE_END_TIMEOUT, sql.end({ timeout: 0 })).catch(() => {}),
  }
  try {
    await line.run(['select 1::text'], LINE_CONNECT_TIMEOUT)
  } catch (error) {
    void line.drop()
    throw error
  }
  return line
}
