/** What the tests of PostgreSQL share. */
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, onTestFinished } from 'vitest'
import {
  type PgPool,
  type PostgresBackend,
  type PostgresJs,
  type PostgresSettings,
  postgres,
} from '../../../src/backend/postgres.js'
import { unique } from '../../services/use.js'

/** How many rows each table has when nothing is stored. */
export const NOTHING = {
  sessions: 0,
  tombstones: 0,
  state: 0,
  streams: 0,
  session_weights: 0,
  events: 0,
  batches: 0,
  nodes: 0,
  messages: 0,
}

/** What a test file does with the database beside what its backends do. To be called once a file. */
export function useDatabase(url: string) {
  const admin = new pg.Pool({ connectionString: url, max: 4 })
  afterAll(() => admin.end())

  /** A backend in a schema of its own; both are gone after the test. */
  function fresh({ schema = unique(), ...settings }: PostgresSettings & { pool?: PgPool | PostgresJs } = {}): {
    backend: PostgresBackend
    schema: string
  } {
    const { pool, ...others } = settings
    const backend = postgres(pool ? { pool, schema, ...others } : { url, schema, ...others })
    onTestFinished(async () => {
      await backend.close()
      await admin.query(`drop schema if exists "${schema}" cascade`)
    })
    return { backend, schema }
  }

  async function count(schema: string, table: string): Promise<number> {
    const { rows } = await admin.query(`select count(*)::int as n from "${schema}".${table}`)
    return rows[0].n
  }

  /** The number of rows in each table. */
  async function counts(schema: string): Promise<Record<string, number>> {
    const tables = Object.keys(NOTHING)
    return Object.fromEntries(
      await Promise.all(tables.map(async (table) => [table, await count(schema, table)] as const)),
    )
  }

  return { admin, fresh, count, counts }
}

/** A promise, and the listener that resolves it. */
export function arrival(): { promise: Promise<string>; resolve: (message: string) => void } {
  let resolve: (message: string) => void = () => {}
  const promise = new Promise<string>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** For what has no event to wait for: a server that comes up, a library that reconnects. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 25_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not happen in 25 seconds')
    await delay(10)
  }
}
