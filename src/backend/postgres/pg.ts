/** Connections made with `pg`. */
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

/** How often the listening connection is tried, and how long it may take to answer, in milliseconds. */
const PROBE_INTERVAL = 15_000
const PROBE_TIMEOUT = 5_000

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

interface PgConfig {
  connectionString: string
  connectionTimeoutMillis: number
  fallback_application_name: string
  keepAlive: boolean
  max?: number
}

export interface Pg {
  Pool: new (config: PgConfig) => PgPool & { end(): Promise<void> }
  Client: new (config: PgConfig) => PgConnection & { connect(): Promise<unknown>; end(): Promise<void> }
}

export function clientForPgPool(pool: PgPool): Client {
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

export function ownPool(pg: Pg, connectionString: string): Client {
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
