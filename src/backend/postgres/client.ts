/**
 * The one place that knows `pg` from `postgres` (postgres.js). Everything else sees a {@link Client}: parameters in, rows of
 * text out, so that no type parser or name transformation that the user configured changes what we read.
 */

/** Milliseconds to wait for a connection of our own, and for the answer to a statement on whatever connection. */
const CONNECT_TIMEOUT = 5_000
const QUERY_TIMEOUT = 5_000

/** How often the listening connection is tried, and how long it may take to answer, in milliseconds. */
const PROBE_INTERVAL = 15_000
const PROBE_TIMEOUT = 5_000

/** Connections of our own pool. */
const POOL_SIZE = 10

const APPLICATION = 'mcp-roam'

/** No arrays, dates or JSON: the two libraries write those differently. */
export type Value = string | number | boolean | null

/** A statement selects text (or casts to it), nothing else. */
export type Row = readonly (string | null)[]

export interface Client {
  /** One statement, one round trip; values go as parameters. Rejects after `limit` milliseconds; default 5 seconds. */
  query(text: string, values: readonly Value[], limit?: number): Promise<Row[]>
  /** Connects at the first `ready()`. The channel must be a valid identifier. */
  listen(channel: string, heard: (payload: string) => void): Listening
  /** Ends what we opened, and nothing else. */
  close(): Promise<void>
}

/** A dedicated connection that listens to a channel and, once it was ready, connects again by itself. */
export interface Listening {
  /** Rejects when it cannot connect. That it resolves does not prove that the connection is still there: postgres.js hides that. */
  ready(): Promise<void>
  close(): Promise<void>
}

// The parts of the two libraries that we use, so that neither needs to be installed for our types.

interface PgQuery {
  text: string
  values: Value[]
  rowMode: 'array'
  query_timeout: number
}

interface PgConnection {
  query(query: PgQuery): Promise<{ rows: unknown[][] }>
  on(event: 'notification', listener: (message: { payload?: string | undefined }) => void): unknown
  on(event: 'error' | 'end', listener: () => void): unknown
}

/** What is used of a `pg.Pool`. */
export interface PgPool {
  query(query: PgQuery): Promise<{ rows: unknown[][] }>
  connect(): Promise<PgConnection & { release(destroy?: boolean): void }>
  on(event: 'error', listener: () => void): unknown
  off(event: 'error', listener: () => void): unknown
  readonly options: { max?: number }
}

interface SqlQuery {
  values(): PromiseLike<readonly unknown[][]>
}

/** What is used of a postgres.js `sql`. */
export interface PostgresJs {
  unsafe(text: string, values: Value[], options: { prepare: boolean }): SqlQuery
  listen(channel: string, heard: (payload: string) => void): Promise<{ unlisten(): Promise<void> }>
}

interface PgConfig {
  connectionString: string
  connectionTimeoutMillis: number
  fallback_application_name: string
  keepAlive: boolean
  max?: number
}

interface Pg {
  Pool: new (config: PgConfig) => PgPool & { end(): Promise<void> }
  Client: new (config: PgConfig) => PgConnection & { connect(): Promise<unknown>; end(): Promise<void> }
}

interface PostgresJsOptions {
  max: number
  connect_timeout: number
  backoff: (retries: number) => number
  connection: { application_name: string }
  onnotice: () => void
}

type MakeSql = (
  url: string,
  options: PostgresJsOptions,
) => PostgresJs & { end(options: { timeout: number }): Promise<void> }

/** Gives the libraries, or undefined for one that is not installed. */
export interface Libraries {
  pg(): Promise<Pg | undefined>
  postgres(): Promise<MakeSql | undefined>
}

const INSTALLED: Libraries = {
  async pg() {
    return (await ifInstalled('pg', () => import('pg')))?.default
  },
  async postgres() {
    return (await ifInstalled('postgres', () => import('postgres')))?.default
  },
}

async function ifInstalled<T>(name: string, load: () => Promise<T>): Promise<T | undefined> {
  try {
    return await load()
  } catch (error) {
    // Not when something that the package itself needs is missing: that is an error to see.
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`)) return undefined
    throw error
  }
}

/** A client on connections of our own, made by whichever library is installed; nothing is loaded before it is used. */
export function clientForUrl(url: string, libraries: Libraries = INSTALLED): Client {
  let opened: Promise<Client> | undefined
  let closed = false

  const open = (): Promise<Client> => {
    if (closed) return Promise.reject(new Error('postgres: closed'))
    opened ??= load().catch((error) => {
      opened = undefined
      throw error
    })
    return opened
  }
  const load = async (): Promise<Client> => {
    const pg = await libraries.pg()
    if (pg) return ownPool(pg, url)
    const postgres = await libraries.postgres()
    if (postgres) return ownSql(postgres, url)
    throw new Error('postgres: no client library is installed; run `npm install pg` (or `npm install postgres`)')
  }

  return {
    query: async (text, values, limit) => (await open()).query(text, values, limit),
    listen(channel, heard) {
      let listening: Listening | undefined
      return {
        async ready() {
          const client = await open()
          listening ??= client.listen(channel, heard)
          await listening.ready()
        },
        close: async () => listening?.close(),
      }
    },
    async close() {
      closed = true
      const client = await opened?.catch(() => undefined)
      await client?.close()
    },
  }
}

/** A client on what the user made; it stays theirs. */
export function clientForPool(pool: PgPool | PostgresJs): Client {
  const client = 'unsafe' in pool ? sqlClient(pool) : clientForPgPool(pool)
  let closed = false
  const check = () => {
    if (closed) throw new Error('postgres: closed')
  }
  return {
    async query(text, values, limit) {
      check()
      return client.query(text, values, limit)
    },
    listen(channel, heard) {
      check()
      return client.listen(channel, heard)
    },
    close() {
      closed = true
      return client.close()
    },
  }
}

function clientForPgPool(pool: PgPool): Client {
  const ignore = () => {}
  // pg throws where nobody listens, and a restarted database would end the process. Who else listens still hears it.
  pool.on('error', ignore)
  const listen = (channel: string, heard: (payload: string) => void) => {
    if (pool.options.max === 1) {
      throw new Error(
        'postgres: the pool has a single connection, and one is kept for LISTEN; give it more (`max`), or set `listenUrl`',
      )
    }
    const connect = async () => {
      const connection = await pool.connect()
      return held(connection, () => connection.release(true))
    }
    return listenWithPg(connect, channel, heard)
  }
  return pgClient(pool, listen, async () => {
    pool.off('error', ignore)
  })
}

// ---- pg

function ownPool(pg: Pg, connectionString: string): Client {
  const config = {
    connectionString,
    connectionTimeoutMillis: CONNECT_TIMEOUT,
    fallback_application_name: APPLICATION,
    keepAlive: true,
  }
  const pool = new pg.Pool({ ...config, max: POOL_SIZE })
  pool.on('error', () => {})
  const connect = async () => {
    const connection = new pg.Client(config)
    // Before `connect`, so that no error finds nobody listening.
    connection.on('error', () => {})
    await connection.connect()
    return held(connection, () => void connection.end().catch(() => {}))
  }
  return pgClient(
    pool,
    (channel, heard) => listenWithPg(connect, channel, heard),
    () => pool.end(),
  )
}

function pgClient(pool: Pick<PgPool, 'query'>, listen: Client['listen'], end: () => Promise<void>): Client {
  return {
    async query(text, values, limit = QUERY_TIMEOUT) {
      // The time limit makes the pool discard a connection that hangs. No prepared statement: PgBouncer.
      const { rows } = await pool.query({ text, values: [...values], rowMode: 'array', query_timeout: limit })
      return rows.map(texts)
    },
    listen,
    close: end,
  }
}

interface Held {
  connection: PgConnection
  /** Ends the connection, whatever its state. */
  drop(): void
  ended: Promise<void>
}

function held(connection: PgConnection, drop: () => void): Held {
  return { connection, drop, ended: new Promise((resolve) => connection.on('end', resolve)) }
}

function listenWithPg(connect: () => Promise<Held>, channel: string, heard: (payload: string) => void): Listening {
  let current: Held | undefined
  let attempt: Promise<void> | undefined
  let failures = 0
  let closed = false
  let retry: NodeJS.Timeout | undefined
  let probe: NodeJS.Timeout | undefined

  const lost = (held: Held) => {
    if (held !== current) return
    current = undefined
    clearInterval(probe)
    held.drop()
    retryLater()
  }
  const retryLater = () => {
    clearTimeout(retry)
    if (closed) return
    const delay = Math.min(2_000, 50 * 2 ** failures++) * (0.5 + Math.random() / 2)
    retry = setTimeout(() => ready().catch(() => {}), delay)
    retry.unref()
  }
  const ask = (held: Held, text: string, limit: number) =>
    held.connection.query({ text, values: [], rowMode: 'array', query_timeout: limit })
  const begin = async () => {
    clearTimeout(retry)
    let held: Held | undefined
    try {
      const fresh = await connect()
      held = fresh
      fresh.connection.on('notification', ({ payload }) => {
        if (payload !== undefined && !closed) heard(payload)
      })
      fresh.connection.on('error', () => lost(fresh))
      fresh.connection.on('end', () => lost(fresh))
      await ask(fresh, `listen "${channel}"`, PROBE_TIMEOUT)
      if (closed) throw new Error('postgres: closed')
      current = fresh
      failures = 0
      // A connection that a firewall forgot is silent, not broken.
      probe = setInterval(() => ask(fresh, 'select 1', PROBE_TIMEOUT).catch(() => lost(fresh)), PROBE_INTERVAL)
      probe.unref()
    } catch (error) {
      held?.drop()
      retryLater()
      throw error
    }
  }
  const ready = async (): Promise<void> => {
    if (closed) throw new Error('postgres: closed')
    if (current) return
    attempt ??= begin().finally(() => {
      attempt = undefined
    })
    await attempt
  }

  return {
    ready,
    async close() {
      closed = true
      clearTimeout(retry)
      clearInterval(probe)
      const last = current
      current = undefined
      last?.drop()
      // As long as it is there its errors must find a listener, the pool's for instance.
      if (last) await within(1_000, last.ended).catch(() => {})
      await attempt?.catch(() => {})
    },
  }
}

// ---- postgres.js

function ownSql(postgres: MakeSql, url: string): Client {
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

function sqlClient(sql: PostgresJs): Client {
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

/** Rejects when the answer takes longer than `ms`. */
export async function within<T>(ms: number, answer: PromiseLike<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`postgres: no answer within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([answer, late])
  } finally {
    clearTimeout(timer)
  }
}

function texts(row: readonly unknown[]): Row {
  return row.map((value) => (value === null || value === undefined ? null : String(value)))
}
