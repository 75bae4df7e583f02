import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import postgresJs from 'postgres'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { SessionRecord } from '../../src/backend/backend.js'
import { clientForUrl } from '../../src/backend/postgres/client.js'
import { startSweeper } from '../../src/backend/postgres/sweeper.js'
import {
  type PgPool,
  type PostgresJs,
  type PostgresOptions,
  type PostgresSettings,
  postgres,
} from '../../src/backend/postgres.js'
import type { Make } from '../../src/testing/index.js'
import { describeWith, postgresProgram, postgresUrl, startPostgres, unique } from '../services/use.js'
import { certify } from './contract.js'

const url = await postgresUrl()

/** Strings that a careless encoding would take for one another, or that PostgreSQL cannot hold. */
const STRANGE = [
  'a',
  'a\0',
  'a\0\0',
  '\0',
  '\u0001',
  '\u00010000',
  'a\u0001',
  '\ud800',
  '\udfff',
  '\udfff\ud800',
  '\ufffd',
  '\ud83d\ude00',
]
const NOTHING = { sessions: 0, tombstones: 0, state: 0, streams: 0, events: 0, batches: 0, nodes: 0, messages: 0 }
const LONG_NAMES = ['x', 'y'].map((last) => 'n'.repeat(5_000) + last)

describe('postgres: what is wrong is said at construction', () => {
  test.each([
    'http://u:hunter2@db/app',
    'db.internal:5432',
    'postgres//u:hunter2@db',
    'postgres://u:hunter2@db:port/app',
    'postgres://u:4/hunter2@db/app',
    'postgres://u:4#hunter2@db/app',
    'postgres://u:4?hunter2@db/app',
    '',
  ])('url %j', (bad) => {
    const attempt = () => postgres({ url: bad })
    expect(attempt).toThrow('postgres://user:password@host:5432/database')
    expect(attempt).not.toThrow('hunter2')
    expect(() => postgres({ url: 'postgres://localhost/app', listenUrl: bad })).toThrow('`listenUrl`')
  })

  test.each([
    '',
    'a b',
    'a"b',
    "a'b",
    'a.b',
    'a;drop schema public',
    'a$$b',
    'a\\b',
    'a\0b',
    'é',
    '1a',
    '-a',
    'pg_mine',
    'PG_mine',
    'information_schema',
    'a'.repeat(64),
    '"; drop schema public cascade; --',
  ])('schema %j', (schema) => {
    expect(() => postgres({ url: 'postgres://localhost/app', schema })).toThrow('such as "mcp_roam"')
  })

  test('neither url nor pool, both, something else, an impossible retention', () => {
    const untyped: (options: unknown) => unknown = (options) => postgres(options as PostgresOptions)
    for (const options of [{}, { url: 'postgres://localhost', pool: {} }]) {
      expect(() => untyped(options)).toThrow('either `url`')
    }
    for (const pool of [{}, null, new pg.Client(), 'postgres://u:hunter2@db/app', () => {}]) {
      expect(() => untyped({ pool })).toThrow('`pool` must be')
    }
    expect(() => postgres({ url: 'postgres://localhost', retention: { maxEvents: 0 } })).toThrow('retention.maxEvents')
  })

  test('the name tells where it is, without credentials', () => {
    const backend = postgres({
      url: 'postgres://us%40er:hunter2@db.internal:6432/app?password=hunter2',
      schema: 'mine',
    })
    expect(backend.name).toBe('postgres://db.internal:6432/app#mine')
  })

  test('errors of a connection that fails tell no password', async () => {
    const backend = postgres({ url: 'postgres://user:hunter2@127.0.0.1:1/app' })
    const error: unknown = await backend.ping().catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(Error)
    expect(JSON.stringify(error) + String(error) + (error as Error).stack).not.toContain('hunter2')
    await expect(backend.sessions.load('x')).rejects.toThrow()
    await expect(backend.bus.subscribe('t', () => {})).rejects.toThrow()
    await backend.close()
    await expect(backend.sessions.load('x')).rejects.toThrow('closed')
  })
})

test('postgres: sweeping goes on while batches are full, starts with the first use, and ends with close', async () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const answers = ['500', '500', '3']
  const sweeps: unknown[] = []
  const database = {
    schema: '"s"',
    used: false,
    migrate: async () => {},
    query: async (...statement: unknown[]) => {
      sweeps.push(statement)
      const answer = answers.shift()
      if (!answer) throw new Error('away')
      return [[answer]]
    },
  }
  const stop = startSweeper(database)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(sweeps).toEqual([])
  database.used = true
  await vi.advanceTimersByTimeAsync(22_500)
  expect(sweeps.slice(0, 3)).toEqual(Array(3).fill(['select "s".sweep($1)::text', [500]]))
  const soFar = sweeps.length
  await vi.advanceTimersByTimeAsync(60_000)
  expect(sweeps.length).toBeGreaterThan(soFar)
  stop()
  const last = sweeps.length
  await vi.advanceTimersByTimeAsync(60_000)
  expect(sweeps.length).toBe(last)
})

describeWith('postgres', url, (url) => {
  const admin = new pg.Pool({ connectionString: url, max: 4 })
  const shared = new pg.Pool({ connectionString: url, max: 12 })
  const sql = postgresJs(url, { max: 6, onnotice: () => {} })
  const schema = unique()
  afterAll(async () => {
    await admin.query(`drop schema if exists ${schema} cascade`)
    await Promise.all([admin.end(), shared.end(), sql.end()])
  })

  const makeWith =
    (client: () => { url: string } | { pool: PgPool | typeof sql }): Make =>
    async ({ retention }) => {
      const make = () => postgres({ ...client(), schema, ...(retention && { retention }) })
      const [backend, peer] = [make(), make()]
      return { backend, peer, release: async () => void (await Promise.all([backend.close(), peer.close()])) }
    }

  certify(
    'with a url',
    makeWith(() => ({ url })),
  )
  certify(
    'with a pool of pg',
    makeWith(() => ({ pool: shared })),
  )
  certify(
    'with the sql of postgres.js',
    makeWith(() => ({ pool: sql })),
  )

  /** A backend in a schema of its own, both gone after the test. */
  function fresh({ schema = unique(), ...settings }: PostgresSettings & { pool?: PgPool | PostgresJs } = {}) {
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

  const TABLES = Object.keys(NOTHING)
  const counts = async (schema: string) =>
    Object.fromEntries(await Promise.all(TABLES.map(async (table) => [table, await count(schema, table)] as const)))

  describe('names and values', () => {
    test.each(['select', 'Mixed-Case_1', 's'.repeat(63), '_'])('schema %s is used as it is written', async (schema) => {
      const { backend } = fresh({ schema })
      const arrived = arrival()
      await backend.bus.subscribe('t', arrived.resolve)
      await backend.bus.publish('t', 'hello')
      expect(await arrived.promise).toBe('hello')
      expect(await backend.sessions.create(record('a'), 60_000)).toBe(true)
      expect(await count(schema, 'sessions')).toBe(1)
    })

    test('two schemas of one database share nothing', async () => {
      const [one, two] = [fresh().backend, fresh().backend]
      const received: string[] = []
      const marker = arrival()
      await two.bus.subscribe('t', (message) => received.push(message))
      await two.bus.subscribe('end', marker.resolve)
      await one.bus.publish('t', 'hello')
      await two.bus.publish('end', '')
      await marker.promise
      expect(received).toEqual([])
      await one.sessions.create(record('a'), 60_000)
      expect(await two.sessions.load('a')).toBeUndefined()
      await one.bus.beat('n', 60_000)
      expect(await two.bus.nodes()).toEqual([])
    })

    test('ids, keys and topics that PostgreSQL cannot hold are kept apart, and values come back as they were', async () => {
      const { backend } = fresh()
      const { sessions, events, bus } = backend
      const names = [...STRANGE, ...LONG_NAMES]
      const received: string[] = []
      for (const [index, name] of names.entries()) {
        await bus.subscribe(name, (message) => received.push(`${index}${message}`))
        expect(await sessions.create(record(name), 60_000)).toBe(true)
        for (const key of names) expect(await sessions.setState(name, key, name + key, 0)).toBe('ok')
        expect(await events.open(name, name, { head: name, writer: name })).toBe(true)
        expect(await events.append(name, name, { id: name, writer: name, events: names })).toBe(names.length)
        expect(await events.append(name, name, { id: name, writer: name, events: names })).toBe(names.length)
        await bus.beat(name, 60_000)
      }
      for (const [index, name] of names.entries()) {
        expect((await sessions.load(name))?.id).toBe(name)
        for (const key of names) expect((await sessions.getState(name, key))?.value).toBe(name + key)
        expect(await events.attach(name, name, name)).toMatchObject({ head: name, writer: name })
        const slice = await events.read(name, name, 0, 100)
        expect(slice).toMatchObject({ head: name, writer: name, reader: name })
        expect(slice?.events.map((event) => event.data)).toEqual(names)
        expect(await events.claim(name, name, 'other', `${name}!`)).toBe(false)
        expect(await events.claim(name, name, 'other', name)).toBe(true)
        await bus.publish(name, name)
        await until(() => received.includes(`${index}${name}`))
      }
      expect(received.length).toBe(names.length)
      expect((await bus.nodes()).sort()).toEqual([...names].sort())
      const listed: string[] = []
      for await (const { id } of sessions.list()) listed.push(id)
      expect(listed.sort()).toEqual([...names].sort())
      for (const name of names) expect(await sessions.delete(name)).toBe(true)
    })

    test('no string that a method takes is run as SQL', async () => {
      const { backend, schema } = fresh()
      const { sessions, events, bus } = backend
      await sessions.create(record('bystander'), 60_000)
      const attacks = [
        `'; drop schema "${schema}" cascade; --`,
        `"; drop schema "${schema}" cascade; --`,
        `$$; drop schema "${schema}" cascade; --`,
        `'); delete from "${schema}".sessions; --`,
        `' or true --`,
        `\\'; select pg_sleep(10); --`,
        '$1',
        '%',
        '@1:t',
        '{"p":1}',
      ]
      for (const attack of attacks) {
        const received = arrival()
        await sessions.create({ ...record(attack), principal: attack }, 60_000)
        await sessions.update({ ...record(attack), principal: attack, revision: 2 }, 60_000)
        await sessions.touch(attack, 60_000)
        await sessions.setState(attack, attack, attack)
        await sessions.getState(attack, attack)
        await events.open(attack, attack, { head: attack, writer: attack })
        await events.append(attack, attack, { id: attack, writer: attack, events: [attack] })
        await events.read(attack, attack, 0, 1)
        await events.attach(attack, attack, attack)
        await events.claim(attack, attack, attack, attack)
        await bus.subscribe(attack, received.resolve)
        await bus.publish(attack, attack)
        expect(await received.promise).toBe(attack)
        await bus.beat(attack, 60_000)
        await bus.leave(attack)
        await events.delete(attack)
        await sessions.delete(attack)
      }
      expect(await sessions.load('bystander')).toEqual(record('bystander'))
      expect(await counts(schema)).toEqual({ ...NOTHING, sessions: 1, tombstones: attacks.length })
    })
  })

  describe('schema', () => {
    test('twenty nodes that start at once in a fresh database make one schema', async () => {
      const schema = unique()
      const backends = Array.from({ length: 20 }, () => fresh({ schema }).backend)
      await Promise.all(
        backends.map(async ({ migrate, sessions }, index) => {
          if (index % 2) await migrate()
          expect(await sessions.create(record(`${index}`), 60_000)).toBe(true)
        }),
      )
      expect(await count(schema, 'migrations')).toBe(1)
      expect(await count(schema, 'sessions')).toBe(20)
      await Promise.all(backends.map(({ migrate }) => migrate()))
    })

    test('a newer schema is left as it is', async () => {
      const { backend, schema } = fresh()
      await backend.migrate()
      await admin.query(`insert into ${schema}.migrations (version) values (99)`)
      const older = postgres({ url, schema })
      await older.migrate()
      expect(await older.sessions.load('x')).toBeUndefined()
      await older.close()
      expect(await count(schema, 'migrations')).toBe(2)
    })

    test('a schema that somebody dropped is made again', async () => {
      const { backend, schema } = fresh()
      await backend.sessions.create(record('a'), 60_000)
      await admin.query(`drop schema ${schema} cascade`)
      await expect(backend.sessions.load('a')).rejects.toThrow()
      expect(await backend.sessions.load('a')).toBeUndefined()
      expect(await backend.sessions.create(record('a'), 60_000)).toBe(true)
    })

    test('a user who may not create the schema is told so, and goes on once it is there', async () => {
      const schema = unique()
      const role = unique()
      await admin.query(`create role ${role} login`)
      const address = new URL(url)
      address.username = role
      const poor = postgres({ url: address.href, schema })
      onTestFinished(async () => {
        await poor.close()
        await admin.query(`drop owned by ${role}; drop role ${role}`)
      })
      await expect(poor.sessions.load('a')).rejects.toThrow('permission denied')
      await fresh({ schema }).backend.migrate()
      await admin.query(`
        grant usage on schema ${schema} to ${role};
        grant all on all tables in schema ${schema} to ${role};
        grant all on all sequences in schema ${schema} to ${role}`)
      expect(await poor.sessions.create(record('a'), 60_000)).toBe(true)
      expect(await poor.sessions.delete('a')).toBe(true)
    })
  })

  describe('what an operation costs', () => {
    test('each is one statement, once the schema is known', async () => {
      const statements: string[] = []
      const counting: PgPool = {
        query(query) {
          statements.push(query.text)
          return shared.query(query)
        },
        connect: () => shared.connect(),
        on: (event, listener) => shared.on(event, listener),
        off: (event, listener) => shared.off(event, listener),
        options: shared.options,
      }
      const { backend } = fresh({ pool: counting })
      const { sessions, events, bus } = backend
      await backend.migrate()
      const calls: Record<string, () => Promise<unknown>> = {
        create: () => sessions.create(record('a'), 60_000),
        load: () => sessions.load('a'),
        update: () => sessions.update({ ...record('a'), revision: 2 }, 60_000),
        touch: () => sessions.touch('a', 60_000),
        setState: () => sessions.setState('a', 'k', '1'),
        getState: () => sessions.getState('a', 'k'),
        open: () => events.open('a', 's', { head: '0', writer: 'w' }),
        append: () => events.append('a', 's', { id: 'b', writer: 'w', events: ['1', '2'] }),
        read: () => events.read('a', 's', 0, 10),
        attach: () => events.attach('a', 's', 'r'),
        claim: () => events.claim('a', 's', 'w2', 'w'),
        'delete streams': () => events.delete('a'),
        delete: () => sessions.delete('a'),
        subscribe: () => bus.subscribe('t', () => {}),
        publish: () => bus.publish('t', 'm'),
        'publish big': () => bus.publish('u', 'm'.repeat(20_000)),
        beat: () => bus.beat('n', 60_000),
        leave: () => bus.leave('n'),
        nodes: () => bus.nodes(),
      }
      for (const [name, call] of Object.entries(calls)) {
        statements.length = 0
        await call()
        expect(statements.length, name).toBe(1)
      }
    })

    test('list reads page by page, and locks nothing meanwhile', async () => {
      const { backend, schema } = fresh()
      await backend.migrate()
      await admin.query(
        `insert into ${schema}.sessions select 's' || n, 1, jsonb_build_object('id', 's' || n)::text, now() + interval '1 hour'
         from generate_series(1, 450) as n`,
      )
      const seen = new Set<string>()
      for await (const { id } of backend.sessions.list()) {
        if (seen.size === 250) await admin.query(`alter table ${schema}.sessions add column extra int`)
        expect(seen.has(id)).toBe(false)
        seen.add(id)
      }
      expect(seen.size).toBe(450)
    })
  })

  describe('sessions and events', () => {
    test('after a delete only the tombstone is left', async () => {
      const { backend, schema } = fresh()
      const { sessions, events } = backend
      for (const id of ['a', 'b']) {
        await sessions.create(record(id), 60_000)
        await sessions.setState(id, 'k', '1')
        for (const stream of ['s', 't']) {
          await events.open(id, stream, { head: '0' })
          await events.append(id, stream, { id: '1', events: ['1', '2', '3'] })
        }
      }
      await sessions.delete('a')
      await events.delete('a')
      expect(await counts(schema)).toEqual({
        ...NOTHING,
        sessions: 1,
        tombstones: 1,
        state: 1,
        streams: 2,
        events: 6,
        batches: 2,
      })
      await events.delete('b')
      await sessions.delete('b')
      expect(await counts(schema)).toEqual({ ...NOTHING, tombstones: 2 })
      expect(await sessions.create(record('a'), 60_000)).toBe(false)
      await admin.query(`update ${schema}.tombstones set expires_at = now()`)
      expect(await sessions.create(record('a'), 60_000)).toBe(true)
      expect(await events.open('a', 's', { head: '0' })).toBe(true)
    })

    test('what is trimmed is removed from the table, and so are old batch ids', async () => {
      const { backend, schema } = fresh({ retention: { maxEvents: 10 } })
      const { events } = backend
      await events.open('a', 's', { head: '0' })
      for (let index = 0; index < 30; index++) await events.append('a', 's', { id: `${index}`, events: ['1', '2'] })
      expect(await count(schema, 'events')).toBe(10)
      expect(await events.append('a', 's', { id: '25', events: ['1', '2'] })).toBe(52)
      expect(await events.append('a', 's', { id: 'all', events: Array(50).fill('1') })).toBe(110)
      expect(await events.append('a', 's', { id: 'all', events: Array(50).fill('1') })).toBe(110)
      expect(await count(schema, 'events')).toBe(10)
      await admin.query(
        `insert into ${schema}.batches select n, 'old' || g, -g, 0 from ${schema}.streams, generate_series(1, 500) as g`,
      )
      await admin.query(`update ${schema}.streams set batches = 1199`)
      await events.append('a', 's', { id: 'x', events: [] })
      expect(await count(schema, 'batches')).toBe(532)
      await admin.query(`update ${schema}.streams set batches = 1249`)
      await events.append('a', 's', { id: 'y', events: [] })
      expect(await count(schema, 'batches')).toBe(2)
    })

    test('of readers that attach at once each learns of exactly one other', async () => {
      const { backend } = fresh()
      await backend.events.open('a', 's', { head: '0' })
      const readers = Array.from({ length: 20 }, (_, index) => `r${index}`)
      const before = await Promise.all(
        readers.map(async (reader) => (await backend.events.attach('a', 's', reader))?.reader),
      )
      const last = (await backend.events.read('a', 's', 0, 1))?.reader
      expect([...before.filter((reader) => reader !== undefined), last].sort()).toEqual([...readers].sort())
    })
  })

  describe('sweeping', () => {
    async function withExpiredRows() {
      const { backend, schema } = fresh()
      const { sessions, events, bus } = backend
      for (const id of ['a', 'b', 'kept']) {
        await sessions.create(record(id), 60_000)
        await sessions.setState(id, 'k', '1')
        await events.open(id, 's', { head: '0' })
        await events.append(id, 's', { id: '1', events: ['1', '2'] })
        await bus.beat(id, 60_000)
        await bus.publish(id, 'm'.repeat(10_000))
      }
      await sessions.delete('gone')
      await sessions.delete('also gone')
      await admin.query(`
        update ${schema}.sessions set expires_at = now() where id <> 'kept';
        update ${schema}.tombstones set expires_at = now() where id = 'gone';
        update ${schema}.streams set expires_at = now(), sweep_at = now() where session <> 'kept';
        update ${schema}.nodes set expires_at = now() where id <> 'kept';
        update ${schema}.messages set expires_at = now() where id < 3`)
      const sweep = async (limit: number): Promise<number> =>
        (await admin.query(`select ${schema}.sweep($1) as most`, [limit])).rows[0].most
      return { backend, schema, sweep }
    }
    const ONE_OF_EACH = {
      sessions: 1,
      tombstones: 1,
      state: 1,
      streams: 1,
      events: 2,
      batches: 1,
      nodes: 1,
      messages: 1,
    }

    test('removes what has expired, in batches, and nothing else', async () => {
      const { schema, sweep } = await withExpiredRows()
      expect(await sweep(1)).toBe(1)
      expect(await count(schema, 'sessions')).toBe(2)
      for (let left = 20; (await sweep(1)) > 0; left--) expect(left).toBeGreaterThan(0)
      expect(await counts(schema)).toEqual(ONE_OF_EACH)
    })

    test('does not wait for a row that somebody holds, nor for another who sweeps', async () => {
      const { backend, schema, sweep } = await withExpiredRows()
      const other = await admin.connect()
      try {
        await other.query(`begin; select from ${schema}.sessions where id = 'a' for update`)
        await other.query(`select from ${schema}.streams where session = 'b' for update`)
        expect(await sweep(100)).toBe(2)
        expect(await counts(schema)).toEqual({
          ...ONE_OF_EACH,
          sessions: 2,
          state: 2,
          streams: 2,
          events: 4,
          batches: 2,
        })
        await other.query('commit')

        await other.query('begin')
        const { rows } = await other.query(`select ${schema}.sweep(1) as most`)
        expect(rows[0].most).toBeGreaterThan(0)
        expect(await sweep(100)).toBe(0)
        // A sweep under way locks nobody out.
        expect(await backend.sessions.create(record('new'), 60_000)).toBe(true)
        expect(await backend.sessions.touch('kept', 60_000)).toBe(true)
        await other.query('commit')
      } finally {
        other.release()
      }
      await sweep(100)
      expect(await counts(schema)).toEqual({ ...ONE_OF_EACH, sessions: 2 })
    })
  })

  describe('messages', () => {
    test('those that NOTIFY has no room for go through a table, in order with the others', async () => {
      const { backend, schema } = fresh()
      const room = 8000 - '=1:t'.length - 1
      const messages = [
        'm'.repeat(room),
        'm'.repeat(room + 1),
        'é'.repeat(room / 2 + 1),
        'small',
        'x'.repeat(2_000_000),
        'last',
      ]
      const received: string[] = []
      await backend.bus.subscribe('t', (message) => received.push(message))
      for (const message of messages) await backend.bus.publish('t', message)
      await until(() => received.length === messages.length)
      expect(received.map((message) => message.length)).toEqual(messages.map((message) => message.length))
      expect(received).toEqual(messages)
      expect(await count(schema, 'messages')).toBe(3)
    })

    test('one whose body is gone is lost, and the next arrives', async () => {
      const { backend, schema } = fresh()
      const received: string[] = []
      await backend.bus.subscribe('t', (message) => received.push(message))
      for (const payload of ['@12345:t', '@99999999999999999999:t', '', '=', '=99:t', 'nonsense', '@x:t']) {
        await admin.query('select pg_notify($1, $2)', [schema, payload])
      }
      await backend.bus.publish('t', 'next')
      await until(() => received.length > 0)
      expect(received).toEqual(['next'])
    })

    test('a body is not fetched by a node that nobody is subscribed on', async () => {
      const { backend, schema } = fresh()
      const idle = fresh({ schema }).backend
      const marker = arrival()
      await idle.bus.subscribe('other', marker.resolve)
      await backend.bus.publish('t', 'm'.repeat(10_000))
      const fetched = async () =>
        Number(
          (
            await admin.query(
              `select coalesce(sum(idx_scan), 0) as n from pg_stat_all_tables where schemaname = $1 and relname = 'messages'`,
              [schema],
            )
          ).rows[0].n,
        )
      await backend.bus.publish('other', '')
      await marker.promise
      expect(await fetched()).toBe(0)
    })

    test('a listening connection that breaks is replaced without being asked', async () => {
      const { backend, schema } = fresh()
      const received: string[] = []
      await backend.bus.subscribe('t', (message) => received.push(message))
      const listeners = async (): Promise<number[]> => {
        const text = `select pid from pg_stat_activity where state = 'idle' and query = 'listen "${schema}"'`
        return (await admin.query(text)).rows.map(({ pid }) => pid)
      }
      const [first] = await listeners()
      await admin.query('select pg_terminate_backend($1)', [first])
      await until(async () => (await listeners()).some((pid) => pid !== first))
      await backend.bus.publish('t', 'after')
      await until(() => received.includes('after'))
      expect(received).toEqual(['after'])
    })

    test('listenUrl is where the listening connection goes', async () => {
      const pool = new pg.Pool({ connectionString: url, max: 1 })
      onTestFinished(() => pool.end())
      const alone = postgres({ pool, schema })
      await expect(alone.bus.subscribe('t', () => {})).rejects.toThrow('`listenUrl`')
      await alone.close()
      const { backend } = fresh({ pool, listenUrl: url })
      const arrived = arrival()
      await backend.bus.subscribe('t', arrived.resolve)
      await backend.bus.publish('t', 'hello')
      expect(await arrived.promise).toBe('hello')
    })
  })

  describe('clients', () => {
    test("the user's pool of pg stays open, and nothing of ours stays in it", async () => {
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

    test('close ends every connection that we made', async () => {
      const backend = postgres({ url, schema })
      await backend.bus.subscribe('t', () => {})
      await Promise.all(Array.from({ length: 5 }, () => backend.ping()))
      await backend.close()
      await backend.close()
      const ours = `select count(*)::int as n from pg_stat_activity where application_name = 'mcp-roam'`
      await until(async () => (await admin.query(ours)).rows[0].n === 0)
      await expect(backend.sessions.load('a')).rejects.toThrow('closed')
      await expect(backend.bus.subscribe('t', () => {})).rejects.toThrow('closed')
    })

    test('without pg, postgres.js is used', async () => {
      const client = clientForUrl(url, { pg: async () => undefined, postgres: async () => postgresJs })
      expect(await client.query('select $1::text, $2::boolean::text, null', ['a', true])).toEqual([['a', 'true', null]])
      const arrived = arrival()
      const listening = client.listen(schema, arrived.resolve)
      await listening.ready()
      await client.query('select pg_notify($1, $2)::text', [schema, 'hello'])
      expect(await arrived.promise).toBe('hello')
      await listening.close()
      await client.close()
      await expect(client.query('select 1', [])).rejects.toThrow('closed')
    })

    test('without either, it says what to install, and tries again', async () => {
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
})

describeWith('postgres: while the server is away', await postgresProgram(), () => {
  const clients: Record<string, (url: string) => { options: PostgresOptions; end: () => Promise<void> }> = {
    'a url': (url) => ({ options: { url }, end: async () => {} }),
    'a pool of pg that nobody watches for errors': (url) => {
      const pool = new pg.Pool({ connectionString: url, connectionTimeoutMillis: 2_000 })
      const end = () => {
        // Its connections may outlive it for a moment, and we listen no more.
        pool.on('error', () => {})
        return pool.end()
      }
      return { options: { pool }, end }
    },
    'the sql of postgres.js': (url) => {
      const sql = postgresJs(url, { connect_timeout: 2, backoff: () => 0.2, onnotice: () => {} })
      return { options: { pool: sql }, end: () => sql.end({ timeout: 1 }) }
    },
  }

  test.each(Object.keys(clients))(
    'with %s, calls are rejected and everything resumes',
    { timeout: 60_000 },
    async (name) => {
      const server = await startPostgres()
      const { options, end } = clients[name]?.(server.url) ?? expect.unreachable()
      const backend = postgres(options)
      const received = new Set<string>()
      const heard = async (message: string) => {
        await until(async () => {
          await backend.bus.publish('t', message).catch(() => {})
          return received.has(message)
        })
      }
      const rejected = async () => {
        const started = performance.now()
        const calls = [
          backend.sessions.load('a'),
          backend.sessions.create(record('b'), 60_000),
          backend.events.read('a', 's', 0, 1),
          backend.bus.publish('t', 'x'),
          backend.bus.subscribe('late', () => {}),
          backend.ping(),
        ]
        const outcomes = await Promise.allSettled(calls)
        expect(outcomes.map(({ status }) => status)).toEqual(calls.map(() => 'rejected'))
        return performance.now() - started
      }
      const works = async () => {
        await until(() => succeeds(backend.ping()))
        await until(() => succeeds(backend.sessions.load('a')))
        expect(await backend.sessions.load('a')).toEqual(record('a'))
      }
      try {
        await backend.sessions.create(record('a'), 600_000)
        await backend.events.open('a', 's', { head: '0' })
        await backend.bus.subscribe('t', (message) => received.add(message))
        await heard('before')

        await server.kill()
        expect(await rejected()).toBeLessThan(6_000)
        // A process of the old server may still be dying, and then the new one refuses to start.
        await until(() => succeeds(server.restart()))
        await works()
        await heard('after a crash')
        expect(await backend.events.append('a', 's', { id: '1', events: ['1'] })).toBe(1)

        server.pause()
        expect(await rejected()).toBeLessThan(12_000)
        server.resume()
        await works()
        await heard('after a pause')

        await server.restart()
        await works()
        await heard('after a restart')
        const again = arrival()
        await backend.bus.subscribe('u', again.resolve)
        await backend.bus.publish('u', 'new')
        expect(await again.promise).toBe('new')
      } finally {
        await backend.close()
        await end()
      }
    },
  )
})

function record(id: string): SessionRecord {
  return {
    version: 1,
    id,
    revision: 1,
    createdAt: 1_700_000_000_000,
    principal: null,
    protocolVersion: '2025-11-25',
    journal: { initialize: {}, initialized: true, subscriptions: [] },
  }
}

function succeeds(attempt: Promise<unknown>): Promise<boolean> {
  return attempt.then(
    () => true,
    () => false,
  )
}

/** A promise, and the listener that resolves it. */
function arrival(): { promise: Promise<string>; resolve: (message: string) => void } {
  let resolve: (message: string) => void = () => {}
  const promise = new Promise<string>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** For what has no event to wait for: a server that comes up, a library that reconnects. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 25_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come to that')
    await delay(10)
  }
}
