/**
 * The one place that knows `pg` from `postgres` (postgres.js). Everything else sees a {@link Client}: parameters in, rows of
 * text out, so that no type parser or name transformation that the user configured changes what we read.
 */

import { ifInstalled } from '../optional.js'
import type { Client, Listening } from './connection.js'
import { clientForPgPool, ownPool, type Pg, type PgPool } from './pg.js'
import { type MakeSql, ownSql, type PostgresJs, sqlClient } from './postgres-js.js'

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
