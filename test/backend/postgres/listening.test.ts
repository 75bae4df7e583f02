/** The connection that listens: what becomes of it, and of the messages that it missed. */
import pg from 'pg'
import postgresJs from 'postgres'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { closedError, type Line, type LineEvents } from '../../../src/backend/postgres/connection.js'
import { Link } from '../../../src/backend/postgres/link.js'
import { channelOf } from '../../../src/backend/postgres/messages.js'
import { type PostgresOptions, postgres } from '../../../src/backend/postgres.js'
import { describeWith, postgresUrl, unique } from '../../services/use.js'
import { arrival, until, useDatabase } from './fixture.js'
import { startTcpProxy } from './tcp-proxy.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh } = useDatabase(url)

  /** By the library that listens: the options of a backend, by an address. */
  const libraries: Record<string, (address: string) => PostgresOptions> = {
    pg: (address) => ({ url: address }),
    'a pool of pg': (connectionString) => {
      const pool = new pg.Pool({ connectionString })
      onTestFinished(async () => {
        pool.on('error', () => {})
        await pool.end()
      })
      return { pool }
    },
    'postgres.js': (address) => {
      const sql = postgresJs(address, { onnotice: () => {} })
      onTestFinished(() => sql.end({ timeout: 0 }))
      return { pool: sql }
    },
  }

  describe.each(Object.keys(libraries))('with %s', (library) => {
    /** A node whose every connection goes by way of a proxy, and another one that is not concerned. */
    async function nodes() {
      const proxy = await startTcpProxy(url)
      const schema = unique()
      const other = fresh({ schema }).backend
      const options = libraries[library]?.(proxy.url) ?? expect.unreachable()
      const node = postgres({ ...options, schema })
      onTestFinished(() => node.close())
      const received: string[] = []
      await node.bus.subscribe('t', (message) => received.push(message))
      await other.bus.publish('t', 'before')
      await until(() => received.length === 1)
      return { proxy, schema, other, node, received }
    }

    test('a connection that went silent is replaced within seconds, and nothing is lost', async () => {
      const { proxy, other, received } = await nodes()
      proxy.blackHole()
      const started = performance.now()
      for (const message of ['1', '2', '3']) await other.bus.publish('t', message)
      await until(() => received.length === 4)
      expect(performance.now() - started).toBeLessThan(7_000)
      await other.bus.publish('t', 'after')
      await until(() => received.length === 5)
      expect(received).toEqual(['before', '1', '2', '3', 'after'])
    })

    test('somebody who subscribes while the connection is silent is served by the next one', async () => {
      const { proxy, other, node } = await nodes()
      proxy.blackHole()
      const arrived = arrival()
      await node.bus.subscribe('u', arrived.resolve)
      await other.bus.publish('u', 'hello')
      expect(await arrived.promise).toBe('hello')
    })

    test('what was published while there was no connection arrives once there is, in order and once', async () => {
      const { proxy, schema, other, node, received } = await nodes()
      const slow = await admin.connect()
      const late: string[] = []
      try {
        await slow.query(`begin; select ${schema}.publish('${channelOf(schema, 't')}', 'lower id', 7000)`)
        await other.bus.publish('t', '1')
        await until(() => received.length === 2)
        proxy.refuses = true
        proxy.cut()
        for (const message of ['2', '3']) await other.bus.publish('t', message)
        proxy.refuses = false
        await until(async () => {
          await other.bus.publish('t', 'again')
          return received.includes('again')
        })
        // It has been there since before, but nobody could see it.
        await slow.query('commit')
      } finally {
        slow.release()
      }
      await until(() => received.includes('lower id'))
      expect(received.filter((message) => message !== 'again')).toEqual(['before', '1', '2', '3', 'lower id'])
      await node.bus.subscribe('t', (message) => late.push(message))
      await other.bus.publish('t', 'last')
      await until(() => late.length > 0 && received.includes('last'))
      expect(late).toEqual(['last'])
    })

    test('nothing is lost when the server ends the connection', async () => {
      const { schema, other, received } = await nodes()
      const listeners = async (): Promise<number[]> => {
        const text = `select pid from pg_stat_activity where query like '%"' || $1 || '"%' or query like '%' || $2 || '%'`
        const { rows } = await admin.query(text, [channelOf(schema, 't'), `"${schema}".messages`])
        return rows.map(({ pid }) => pid)
      }
      const sent = ['before']
      for (let round = 0; round < 5; round++) {
        await until(async () => (await listeners()).length > 0)
        await admin.query('select pg_terminate_backend(pid) from unnest($1::int[]) as pid', [await listeners()])
        for (const message of [`${round}a`, `${round}b`]) {
          await other.bus.publish('t', message)
          sent.push(message)
        }
        await until(() => received.length === sent.length)
      }
      expect(received).toEqual(sent)
    })
  })
})

describe('a link', () => {
  function fakeLink({ answers = true } = {}) {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const state = { answers, made: 0, dropped: 0, proofs: 0, lose: () => {} }
    const connect = async ({ lost }: LineEvents): Promise<Line> => {
      state.made++
      state.lose = lost
      return {
        run: (_, limit) =>
          state.answers
            ? Promise.resolve([])
            : new Promise((_, reject) => setTimeout(() => reject(closedError()), limit)),
        query: async () => [],
        async drop() {
          state.dropped++
        },
      }
    }
    const work = {
      prepare: async () => {},
      opened: () => {},
      notified: () => {},
      prove(line: Line) {
        state.proofs++
        return line.run([], 2_000)
      },
    }
    const link = new Link({ connect }, work, { proveAfter: 60_000, proveLimit: 2_000 })
    onTestFinished(() => link.close())
    return { link, state }
  }

  test('is proved as soon as there is doubt, and replaced when the proof is late', async () => {
    const { link, state } = fakeLink()
    await link.ready()
    link.doubt()
    link.doubt()
    await vi.advanceTimersByTimeAsync(3_000)
    expect(state).toMatchObject({ proofs: 1, made: 1, dropped: 0 })
    state.answers = false
    link.doubt()
    await vi.advanceTimersByTimeAsync(1_999)
    expect(state).toMatchObject({ proofs: 2, made: 1, dropped: 0 })
    await vi.advanceTimersByTimeAsync(100)
    expect(state).toMatchObject({ made: 2, dropped: 1 })
  })

  test('is proved only when nothing was answered for a while', async () => {
    const { link, state } = fakeLink()
    await link.ready()
    for (let i = 0; i < 10; i++) {
      await vi.advanceTimersByTimeAsync(30_000)
      if (link.line) await link.use(link.line, (line) => line.run([], 1_000))
    }
    expect(state.proofs).toBe(0)
    await vi.advanceTimersByTimeAsync(90_000)
    expect(state.proofs).toBe(1)
  })

  test('is made again after each loss, once', async () => {
    const { link, state } = fakeLink()
    await link.ready()
    for (let made = 2; made < 6; made++) {
      state.lose()
      state.lose()
      await vi.advanceTimersByTimeAsync(2_000)
      expect(state).toMatchObject({ made, dropped: made - 1 })
    }
  })
})
