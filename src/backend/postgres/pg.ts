/** Connections made with `pg`. */
import { createHash } from 'node:crypto'
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

/** How long a connection of the user's pool may take to answer, in milliseconds. It may have died while nobody used it. */
const LENT_LIMIT = 1_000

// The parts of the library that are used, so that it need not be installed for our types.

interface PgQuery {
  text: string
  values: Value[]
  rowMode: 'array'
  query_timeout: number
  /** It is prepared under this name. */
  name?: string
}

interface PgResult {
  rows: unknown[][]
}

interface PgConnection {
  /** A text of several statements has several results. */
  query(query: PgQuery): Promise<PgResult | PgResult[]>
  on(event: 'notification', listener: (message: { channel: string; payload?: string | undefined }) => void): unknown
  on(event: 'error' | 'end', listener: () => void): unknown
}

/** What is used of a `pg.Pool`. */
export interface PgPool {
  query(query: PgQuery): Promise<PgResult>
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
  return {
    query: queryOn(pool),
    async connect(events) {
      if (pool.options.max === 1) {
        throw new Error(
          'postgres: the pool has a single connection, and one is kept for LISTEN; give it more (`max`), or set `listenUrl`',
        )
      }
      const deadline = performance.now() + LINE_CONNECT_TIMEOUT
      for (;;) {
        const connection = await borrow(pool, deadline - performance.now())
        const line = lineOn(connection, () => connection.release(true), events)
        try {
          await line.run(['select 1::text'], LENT_LIMIT)
          return line
        } catch (error) {
          void line.drop()
          if (performance.now() > deadline) throw error
        }
      }
    },
    async close() {
      pool.off('error', ignore)
    },
  }
}

async function borrow(pool: PgPool, limit: number): ReturnType<PgPool['connect']> {
  const lent = pool.connect()
  try {
    return await within(limit, lent)
  } catch (error) {
    // It may still come, and nobody would give it back.
    lent.then((late) => late.release()).catch(() => {})
    throw error
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
  return {
    query: queryOn(pool),
    async connect(events) {
      const connection = new pg.Client({ ...config, connectionTimeoutMillis: LINE_CONNECT_TIMEOUT })
      // Before connecting, because an error without a listener is thrown.
      const line = lineOn(connection, () => void connection.end().catch(() => {}), events)
      await connection.connect()
      return line
    },
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

/** @param end Ends the connection, whatever its state. */
function lineOn(connection: PgConnection, end: () => void, { notified, lost }: LineEvents): Line {
  const ended = new Promise<void>((resolve) => connection.on('end', resolve))
  // Until it has ended its errors need a listener, or they are thrown.
  connection.on('error', lost)
  connection.on('end', lost)
  connection.on('notification', ({ channel, payload = '' }) => notified(channel, payload))
  let dropped = false
  return {
    async run(statements, limit) {
      const answer = await connection.query({
        text: statements.join(';'),
        values: [],
        rowMode: 'array',
        query_timeout: limit,
      })
      const last = Array.isArray(answer) ? answer.at(-1) : answer
      return (last?.rows ?? []).map(texts)
    },
    async query(text, values, limit) {
      const answer = await connection.query({
        name: createHash('sha256').update(text).digest('hex').slice(0, 32),
        text,
        values: [...values],
        rowMode: 'array',
        query_timeout: limit,
      })
      return (Array.isArray(answer) ? [] : answer.rows).map(texts)
    },
    async drop() {
      if (!dropped) end()
      dropped = true
      await within(LINE_END_TIMEOUT, ended).catch(() => {})
    },
  }
}
