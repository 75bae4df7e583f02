/** A pool that tells what was asked and heard over its connections. */
import pg from 'pg'
import { onTestFinished } from 'vitest'
import type { PgPool } from '../../../src/backend/postgres.js'

export interface WatchedPool extends PgPool {
  /** Texts of what was asked over the pool, and over connections that it lent. */
  readonly asked: string[]
  /** Of what was asked, that which went over connections that it lent: there is one, for LISTEN. */
  readonly askedOnLine: string[]
  /** Payloads of all notifications that arrived. */
  readonly heard: string[]
  /** Every channel that was ever listened to. */
  readonly channels: string[]
}

/** Ends with the test. */
export function watchedPool(connectionString: string): WatchedPool {
  const pool = new pg.Pool({ connectionString, max: 4 })
  onTestFinished(() => pool.end())
  const asked: string[] = []
  const askedOnLine: string[] = []
  const heard: string[] = []
  return {
    asked,
    askedOnLine,
    heard,
    get channels() {
      return askedOnLine.flatMap((text) => [...text.matchAll(/\blisten "([^"]*)"/g)].map(([, name = '']) => name))
    },
    query(query) {
      asked.push(query.text)
      return pool.query(query)
    },
    async connect() {
      const connection = await pool.connect()
      connection.on('notification', ({ payload = '' }) => heard.push(payload))
      return {
        query(query) {
          asked.push(query.text)
          askedOnLine.push(query.text)
          return connection.query(query)
        },
        on: (event: string, listener: (...values: never[]) => void) =>
          connection.on(event as 'end', listener as () => void),
        release: (destroy?: boolean) => connection.release(destroy),
      }
    },
    on: (event, listener) => pool.on(event, listener),
    off: (event, listener) => pool.off(event, listener),
    options: pool.options,
  }
}
