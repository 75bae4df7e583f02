import { expect, test } from 'vitest'
import { FINISHED_TTL } from '../../../src/backend/backend.js'
import { describeWith, postgresUrl } from '../../services/use.js'
import { record } from '../record.js'
import { arrival, NOTHING, until, useDatabase } from './fixture.js'

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
const LONG_NAMES = ['x', 'y'].map((last) => 'n'.repeat(5_000) + last)

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh, count, counts } = useDatabase(url)

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
      expect((await sessions.load(name))?.record.id).toBe(name)
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
    for (const name of names) expect(await sessions.delete(name)).toBeDefined()
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
      await sessions.update({ ...record(attack), principal: attack, revision: 2 }, 1, 60_000)
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
    expect((await sessions.load('bystander'))?.record).toEqual(record('bystander'))
    const messages = attacks.length
    expect(await counts(schema)).toEqual({ ...NOTHING, sessions: 1, tombstones: attacks.length, messages })
  })

  test('a deleted session leaves nothing in the tables but its tombstone', async () => {
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
      session_weights: 1,
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

  test('events beyond the retention and old batch ids are removed from their tables', async () => {
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
      `insert into ${schema}.batches (stream, id, number, position) select n, 'old' || g, -g, 0 from ${schema}.streams, generate_series(1, 500) as g`,
    )
    await admin.query(`update ${schema}.streams set batches = 1199`)
    await events.append('a', 's', { id: 'x', events: ['1'] })
    expect(await count(schema, 'batches')).toBe(532)
    await admin.query(`update ${schema}.streams set batches = 1249`)
    await events.append('a', 's', { id: 'y', events: ['1'] })
    expect(await count(schema, 'batches')).toBe(2)
    await admin.query(`update ${schema}.batches set at = now() - interval '1 hour'`)
    await admin.query(`update ${schema}.streams set batches = 249`)
    await events.append('a', 's', { id: 'z', events: ['1'] })
    expect(await count(schema, 'batches')).toBe(1)
  })

  test('a stream that has ended expires soon, and one with a writer has no rows of batches', async () => {
    const { backend, schema } = fresh()
    const { events } = backend
    const left = async () => {
      const { rows } = await admin.query(
        `select extract(epoch from expires_at - now()) * 1000 as ms, sweep_at >= expires_at as later from ${schema}.streams`,
      )
      expect(rows[0].later).toBe(true)
      return Number(rows[0].ms)
    }
    await events.open('a', 's', { head: '0', writer: 'w' })
    await events.append('a', 's', { id: '1', writer: 'w', events: ['1'] })
    expect(await left()).toBeGreaterThan(FINISHED_TTL + 60_000)
    await events.append('a', 's', { id: '2', writer: 'w', events: ['2'], end: true })
    expect(await left()).toBeLessThanOrEqual(FINISHED_TTL)
    await events.keep([{ session: 'a', stream: 's' }])
    expect(await left()).toBeLessThanOrEqual(FINISHED_TTL)
    expect(await left()).toBeGreaterThan(FINISHED_TTL / 2)
    expect(await count(schema, 'batches')).toBe(0)
  })
})
