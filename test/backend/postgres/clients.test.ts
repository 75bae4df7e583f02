import pg from 'pg'
import postgresJs from 'postgres'
import { expect, onTestFinished, test } from 'vitest'
import { clientForUrl } from '../../../src/backend/postgres/client.js'
import { postgres } from '../../../src/backend/postgres.js'
import { describeWith, postgresUrl, unique } from '../../services/use.js'
import { arrival, until, useDatabase } from './fixture.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh } = useDatabase(url)

  test("the user's pool of pg stays open, and the backend leaves nothing in it", async () => {
    const pool = new pg.Pool({ connectionString: url })
    onTestFinished(() => pool.end())
    const { backend } = fresh({ pool })
    await backend.bus.subscribe('t', () => {})
    expect(pool.idleCount).toBeLessThan(pool.totalCount)
    await Promise.all([backend.close(), backend.close()])
    await backend.close()
    expect(pool.idleCount).toBe(pool.totalCount)
    expect(pool.listenerCount('error')).toBe(0)
    await expect(backend.sessions.load('a')).rejects.toThrow('closed')
    await expect(backend.bus.subscribe('t', () => {})).rejects.toThrow('closed')
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  })

  test("the user's sql stays open, whatever it does to names and types", async () => {
    const sql = postgresJs(url, {
      max: 2,
      transform: postgresJs.toPascal ? { column: { to: postgresJs.fromPascal, from: postgresJs.toPascal } } : {},
      types: { bigint: postgresJs.BigInt },
      fetch_types: false,
      onnotice: () => expect.unreachable('a notice would be printed'),
    })
    onTestFinished(() => sql.end())
    const { backend } = fresh({ pool: sql })
    const arrived = arrival()
    await backend.bus.subscribe('t', arrived.resolve)
    await backend.bus.publish('t', 'hello')
    expect(await arrived.promise).toBe('hello')
    await backend.events.open('a', 's', { head: '0' })
    expect(await backend.events.append('a', 's', { id: '1', events: ['1'], end: true })).toBe(1)
    expect(await backend.events.read('a', 's', 0, 1)).toMatchObject({ last: 1, ended: true })
    await backend.close()
    expect([...(await sql`select 1::int as one`)]).toEqual([{ One: 1 }])
  })

  test('close ends every connection that the backend made', async () => {
    const schema = unique()
    const address = new URL(url)
    address.searchParams.set('application_name', schema)
    const backend = postgres({ url: address.href, schema })
    onTestFinished(async () => {
      await admin.query(`drop schema if exists ${schema} cascade`)
    })
    const connections = async () =>
      (await admin.query('select from pg_stat_activity where application_name = $1', [schema])).rowCount
    await backend.bus.subscribe('t', () => {})
    await Promise.all(Array.from({ length: 5 }, () => backend.ping()))
    expect(await connections()).toBeGreaterThan(1)
    await backend.close()
    await backend.close()
    await until(async () => (await connections()) === 0)
    await expect(backend.sessions.load('a')).rejects.toThrow('closed')
    await expect(backend.bus.subscribe('t', () => {})).rejects.toThrow('closed')
  })

  test('without pg, postgres.js is used', async () => {
    const client = clientForUrl(url, { pg: async () => undefined, postgres: async () => postgresJs })
    expect(await client.query('select $1::text, $2::boolean::text, null', ['a', true])).toEqual([['a', 'true', null]])
    const arrived = arrival()
    const channel = unique()
    const line = await client.connect({ notified: (_, payload) => arrived.resolve(payload), lost: () => {} })
    expect(await line.run([`listen ${channel}`, "select 'last'"], 5_000)).toEqual([['last']])
    await client.query('select pg_notify($1, $2)::text', [channel, 'hello'])
    expect(await arrived.promise).toBe('hello')
    await line.drop()
    await client.close()
    await expect(client.query('select 1', [])).rejects.toThrow('closed')
  })

  test('without either library calls reject with what to install, until one is installed', async () => {
    let installed = false
    const client = clientForUrl(url, {
      pg: async () => (installed ? pg : undefined),
      postgres: async () => undefined,
    })
    await expect(client.query('select 1', [])).rejects.toThrow('npm install pg')
    installed = true
    expect(await client.query("select 'x'", [])).toEqual([['x']])
    await client.close()
  })
})
