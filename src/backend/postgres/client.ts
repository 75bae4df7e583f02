/** Which client library it is: `pg` or `postgres` (postgres.js). The rest of the backend sees a `Client`. */
import { ifInstalled } from '../optional.js'
import { type Client, closedError } from './connection.js'
import { clientForPg, clientForPgPool, type Pg, type PgPool } from './pg.js'
import { clientForPostgresJs, clientForSql, type MakeSql, type PostgresJs } from './postgres-js.js'

/** The libraries; undefined for one that is not installed. */
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

/** A client on connections that are made here, by whichever library is installed. Nothing is loaded before it is used. */
export function clientForUrl(url: string, libraries: Libraries = INSTALLED): Client {
  let opened: Promise<Client> | undefined
  let closed = false

  const open = (): Promise<Client> => {
    if (closed) return Promise.reject(closedError())
    opened ??= load().catch((error) => {
      opened = undefined
      throw error
    })
    return opened
  }
  const load = async (): Promise<Client> => {
    const pg = await libraries.pg()
    if (pg) return clientForPg(pg, url)
    const postgres = await libraries.postgres()
    if (postgres) return clientForPostgresJs(postgres, url)
    throw new Error('postgres: no client library is installed; run `npm install pg` (or `npm install postgres`)')
  }

  return {
    query: async (text, values, limit) => (await open()).query(text, values, limit),
    connect: async (events) => (await open()).connect(events),
    async close() {
      closed = true
      const client = await opened?.catch(() => undefined)
      await client?.close()
    },
  }
}

/** A client on a pool that the user made; `close` leaves it open. */
export function clientForPool(pool: PgPool | PostgresJs, libraries: Libraries = INSTALLED): Client {
  const library = async () => {
    const postgres = await libraries.postgres()
    if (!postgres) throw new Error('postgres: the library of `pool` is not installed here; run `npm install postgres`')
    return postgres
  }
  const client = 'unsafe' in pool ? clientForSql(pool, library) : clientForPgPool(pool)
  let closed = false
  const check = () => {
    if (closed) throw closedError()
  }
  return {
    async query(text, values, limit) {
      check()
      return client.query(text, values, limit)
    },
    async connect(events) {
      check()
      return client.connect(events)
    },
    close() {
      closed = true
      return client.close()
    },
  }
}
