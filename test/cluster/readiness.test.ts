/** `status()`: a node is ready when its backend answers and takes writes. */
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import { Redis } from 'ioredis'
import pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { postgres } from '../../src/backend/postgres.js'
import { redis } from '../../src/backend/redis.js'
import { sqlite } from '../../src/backend/sqlite.js'
import type { Backend } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { initialize, openSession } from '../harness/wire-client.js'
import { until } from '../harness/within.js'
import { discard, scratch } from '../services/children.js'
import { describeWith, postgresProgram, redisProgram, startPostgres, startRedis } from '../services/use.js'

const READY = { ready: true, backend: 'available' }
const NOT_READY = { ready: false, backend: 'unavailable' }

/** One node that has a session and one that has none, while `refuse` is in force and after it. */
async function refusingWrites(backend: () => Backend, refuse: () => Promise<() => Promise<void>>): Promise<void> {
  const node = () => serve(scripted(), { backend: backend(), onerror: () => {} })
  const [used, fresh] = [node(), node()]
  await openSession(used)
  expect(await used.status()).toMatchObject(READY)
  const accept = await refuse()
  expect((await initialize(used)).status).toBe(503)
  expect(await used.status()).toMatchObject(NOT_READY)
  expect(await fresh.status()).toMatchObject(NOT_READY)
  await accept()
  expect(await used.status()).toMatchObject(READY)
  expect(await fresh.status()).toMatchObject(READY)
  expect((await initialize(fresh)).status).toBe(200)
}

describeWith('Redis', await redisProgram(), () => {
  test('at its maxmemory', async () => {
    const { url } = await startRedis()
    const admin = new Redis(url)
    onTestFinished(() => admin.disconnect())
    const limit = (bytes: string) => admin.config('SET', 'maxmemory', bytes)
    await refusingWrites(
      () => redis({ url }),
      async () => {
        await limit('1')
        return async () => void (await limit('0'))
      },
    )
  })
})

test('SQLite that takes no rows', async () => {
  const folder = scratch()
  onTestFinished(() => discard(folder))
  const file = join(folder, 'sessions.db')
  await refusingWrites(
    () => sqlite({ file }),
    async () => {
      const other = new BetterSqlite(file)
      const tables = ['nodes', 'sessions']
      for (const table of tables) {
        other.exec(`CREATE TRIGGER ${table}_full BEFORE INSERT ON ${table} BEGIN SELECT RAISE(ABORT, 'full'); END`)
      }
      return async () => {
        for (const table of tables) other.exec(`DROP TRIGGER ${table}_full`)
        other.close()
      }
    },
  )
})

describeWith('PostgreSQL', await postgresProgram(), () => {
  test('that has become read-only', { timeout: 60_000 }, async () => {
    const { url } = await startPostgres()
    const admin = new pg.Client({ connectionString: url })
    await admin.connect()
    onTestFinished(() => admin.end())
    const readOnly = async (value: 'on' | 'off') => {
      await admin.query('set default_transaction_read_only = off')
      await admin.query(`alter system set default_transaction_read_only = ${value}`)
      await admin.query('select pg_reload_conf()')
      const other = new pg.Client({ connectionString: url })
      await other.connect()
      const now = async () => (await other.query('show default_transaction_read_only')).rows[0]
      await until(async () => (await now()).default_transaction_read_only === value)
      await other.end()
    }
    const backend = () => postgres({ url })
    await refusingWrites(backend, async () => {
      await readOnly('on')
      return () => readOnly('off')
    })
  })
})

test('a node whose heartbeat alone fails is not ready', async () => {
  const backend = gated()
  const handler = serve(scripted(), { backend })
  const recover = backend.calls.fail('bus.beat')
  expect(await handler.status()).toMatchObject(NOT_READY)
  recover()
  expect(await handler.status()).toMatchObject(READY)
})

test('a node that was drained or closed does not come back into the cluster by being asked', async () => {
  const backend = gated(memory())
  const handler = serve(scripted(), { backend })
  const late = backend.calls.hold('bus.beat')
  const asked = handler.status()
  await late.reached
  const drained = handler.drain({ timeout: 0 })
  late.open()
  await Promise.all([asked, drained])
  expect(await handler.status()).toMatchObject({ ready: false, backend: 'available' })
  expect(await backend.bus.nodes()).toEqual([])
})
