/** Connections made with `pg`. */
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

/** How often the listening connection is tested, and how long it may take to answer, in milliseconds. */
const TEST_INTERVAL = 15_000
const TEST_TIMEOUT = 5_000

/** Longest pause before the listening connection is made again, in milliseconds. */
const LONGEST_PAUSE = 2_000

/** How long `close` waits for the listening connection to end, in milliseconds. */
const END_TIMEOUT = 1_000

// The parts of the library that are used, so that it need not be installed for our types.

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

/** What is used of the module `pg`. */
export interface Pg {
  Pool: new (config: PgConfig) => PgPool & { end(): Promise<void> }
  Client: new (config: PgConfig) => PgConnection & { connect(): Promise<unknown>; end(): Promise<void> }
}

/** A client on a pool that the user made. */
export function clientForPgPool(pool: PgPool): Client {
  const ignore = () => {}
  // Without a listener pg throws, and a restart of the database would end the process. Listeners of the user still hear it.
  pool.on('error', ignore)
  const connect = async () => {
    const connection = await pool.connect()
    return dedicate(connection, () => connection.release(true))
  }
  return {
    query: queryOn(pool),
    listen(channel, onPayload) {
      if (pool.options.max === 1) {
        throw new Error(
          'postgres: the pool has a single connection, and one is kept for LISTEN; give it more (`max`), or set `listenUrl`',
        )
      }
      return listenOn(connect, channel, onPayload)
    },
    async close() {
      pool.off('error', ignore)
    },
  }
}

/** A client on a pool that is made here. */
export function clientForPg(pg: Pg, connectionString: string): Client {
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
    // Before connecting, because an error without a listener is thrown.
    connection.on('error', () => {})
    await connection.connect()
    return dedicate(connection, () => void connection.end().catch(() => {}))
  }
  return {
    query: queryOn(pool),
    listen: (channel, onPayload) => listenOn(connect, channel, onPayload),
    close: () => pool.end(),
  }
}

function queryOn(pool: Pick<PgPool, 'query'>): Client['query'] {
  return async (text, values, limit = QUERY_TIMEOUT) => {
    // The time limit makes the pool discard a connection that hangs. Statements are not prepared, because poolers such as
    // PgBouncer may give each one another connection.
    const { rows } = await pool.query({ text, values: [...values], rowMode: 'array', query_timeout: limit })
    return rows.map(texts)
  }
}

/** A connection that nobody else uses. */
interface Dedicated {
  connection: PgConnection
  /** Ends the connection, whatever its state. */
  drop(): void
  /** Resolves when the connection has ended. */
  ended: Promise<void>
}

function dedicate(connection: PgConnection, drop: () => void): Dedicated {
  return { connection, drop, ended: new Promise((resolve) => connection.on('end', resolve)) }
}

function listenOn(connect: () => Promise<Dedicated>, channel: string, onPayload: (payload: string) => void): Listening {
  /** The connection that listens, if there is one. */
  let current: Dedicated | undefined
  let attempt: Promise<void> | undefined
  let failures = 0
  let closed = false
  let retryTimer: NodeJS.Timeout | undefined
  let testTimer: NodeJS.Timeout | undefined

  const query = ({ connection }: Dedicated, text: string) =>
    connection.query({ text, values: [], rowMode: 'array', query_timeout: TEST_TIMEOUT })

  const retryLater = () => {
    clearTimeout(retryTimer)
    if (closed) return
    const pause = Math.min(LONGEST_PAUSE, 50 * 2 ** failures++) * (0.5 + Math.random() / 2)
    retryTimer = setTimeout(() => ready().catch(() => {}), pause)
    retryTimer.unref()
  }

  const replace = (lost: Dedicated) => {
    if (lost !== current) return
    current = undefined
    clearInterval(testTimer)
    lost.drop()
    retryLater()
  }

  const begin = async () => {
    clearTimeout(retryTimer)
    let made: Dedicated | undefined
    try {
      const fresh = await connect()
      made = fresh
      fresh.connection.on('notification', ({ payload }) => {
        if (payload !== undefined && !closed) onPayload(payload)
      })
      fresh.connection.on('error', () => replace(fresh))
      fresh.connection.on('end', () => replace(fresh))
      await query(fresh, `listen "${channel}"`)
      if (closed) throw closedError()
      current = fresh
      failures = 0
      // A connection that a firewall forgot does not break: it is silent, until it is asked something.
      testTimer = setInterval(() => query(fresh, 'select 1').catch(() => replace(fresh)), TEST_INTERVAL)
      testTimer.unref()
    } catch (error) {
      made?.drop()
      retryLater()
      throw error
    }
  }

  const ready = async (): Promise<void> => {
    if (closed) throw closedError()
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
      clearTimeout(retryTimer)
      clearInterval(testTimer)
      const last = current
      current = undefined
      last?.drop()
      // Until it has ended its errors need a listener, and the caller may be about to take away the pool's.
      if (last) await within(END_TIMEOUT, last.ended).catch(() => {})
      await attempt?.catch(() => {})
    },
  }
}
