/** What notifications say, who gets them, and what somebody can do with them who has no rights. */
import pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { channelOf } from '../../../src/backend/postgres/messages.js'
import { describeWith, postgresUrl, unique } from '../../services/use.js'
import { arrival, until, useDatabase } from './fixture.js'
import { watchedPool } from './watched-pool.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh } = useDatabase(url)

  /** A connection of a role that was granted nothing, which listens to the channels. */
  async function stranger(channels: readonly string[]) {
    const role = unique()
    await admin.query(`create role ${role} login`)
    const address = new URL(url)
    address.username = role
    const client = new pg.Client({ connectionString: address.href })
    await client.connect()
    onTestFinished(async () => {
      await client.end()
      await admin.query(`drop owned by ${role}; drop role ${role}`)
    })
    const heard: string[] = []
    client.on('notification', ({ payload = '' }) => heard.push(payload))
    for (const channel of channels) await client.query(`listen "${channel}"`)
    return { client, heard }
  }

  test('a role without rights reads no message and no topic', async () => {
    const pool = watchedPool(url)
    const { backend, schema } = fresh({ pool })
    const arrived = arrival()
    await backend.bus.subscribe('session:secret-id', arrived.resolve)
    const { client, heard } = await stranger(pool.channels)
    await backend.bus.publish('session:secret-id', 'an answer for one client')
    await arrived.promise
    await client.query('select')
    expect(heard).toHaveLength(1)
    expect(heard.join()).toMatch(/^[0-9]+$/)
    expect(pool.channels.join()).not.toContain('secret-id')
    await expect(client.query(`select * from ${schema}.messages`)).rejects.toThrow('permission denied')
    await expect(client.query(`select ${schema}.publish('c', 'forged', 1000)`)).rejects.toThrow('permission denied')
  })

  test('what a role without rights sends is delivered to nobody, throws nothing, and holds nobody up', async () => {
    const pool = watchedPool(url)
    const { backend } = fresh({ pool })
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    await backend.bus.subscribe('u', (message) => received.push(message))
    await backend.bus.publish('t', 'first')
    await until(() => received.length === 1)
    const { client } = await stranger([])
    const payloads = [
      '=1:tforged',
      '@1:t',
      '?',
      '1',
      '2',
      '999999',
      '99999999999999999999',
      '',
      '0',
      '-1',
      '1,2',
      '1}',
      'é',
    ]
    for (const channel of pool.channels) {
      for (const payload of [...payloads, 'x'.repeat(7_900)]) {
        await client.query('select pg_notify($1, $2)', [channel, payload])
      }
    }
    await backend.bus.publish('u', 'second')
    await until(() => received.includes('second'))
    expect(received).toEqual(['first', 'second'])
  })

  test("a notification with another topic's message delivers it to nobody, and does not take it from its own", async () => {
    const pool = watchedPool(url)
    const { backend, schema } = fresh({ pool })
    const [a, b]: string[][] = [[], []]
    await backend.bus.subscribe('a', (message) => a?.push(message))
    await backend.bus.subscribe('b', (message) => b?.push(message))
    const { client } = await stranger([])
    const other = await admin.connect()
    try {
      await other.query('begin')
      await other.query(`select ${schema}.publish($1, 'for a', 7000)`, [channelOf(schema, 'a')])
      const { rows } = await other.query(`select max(id)::text as id from ${schema}.messages`)
      await client.query('select pg_notify($1, $2)', [channelOf(schema, 'b'), rows[0].id])
      await other.query('commit')
      await client.query('select pg_notify($1, $2)', [channelOf(schema, 'b'), rows[0].id])
    } finally {
      other.release()
    }
    await backend.bus.publish('b', 'for b')
    await until(() => a?.length === 1 && b?.length === 1)
    expect([a, b]).toEqual([['for a'], ['for b']])
  })

  test('a flood of false notifications costs a few statements, and messages arrive all the same', async () => {
    const pool = watchedPool(url)
    const { backend } = fresh({ pool })
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    const { client } = await stranger([])
    const before = pool.asked.length
    const started = performance.now()
    const count = 40_000
    for (let first = 1; first <= count; first += 5_000) {
      // Both as this version writes an id, and as an earlier one did.
      await client.query(
        `select pg_notify(channel, payload) from unnest($1::text[]) as channel, generate_series($2::int, $2::int + 4999) as id,
         unnest(array[(id + 1000)::text, '@' || (id + 1000) || ':t']) as payload`,
        [[...new Set(pool.channels)], first],
      )
      if (first === 20_001) await backend.bus.publish('t', 'in the middle')
    }
    await backend.bus.publish('t', 'last')
    await until(() => received.includes('last'))
    expect(received).toEqual(['in the middle', 'last'])
    expect(pool.heard.length).toBeGreaterThan(count)
    // One for 20 ms, and a few that are not about messages.
    expect(pool.asked.length - before).toBeLessThan((performance.now() - started) / 20 + 20)
  })

  test('a node is notified of nothing that it is not subscribed to', async () => {
    const schema = unique()
    const [busy, idle] = [watchedPool(url), watchedPool(url)]
    const [a, b, c] = [fresh({ schema }), fresh({ schema, pool: busy }), fresh({ schema, pool: idle })]
    const received: string[] = []
    await b.backend.bus.subscribe('t', (message) => received.push(message))
    const end = await c.backend.bus.subscribe('t', () => {})
    const marker = arrival()
    await c.backend.bus.subscribe('other', marker.resolve)
    await end()
    // Ends what nobody here uses.
    await c.backend.bus.subscribe('third', () => {})
    for (let i = 0; i < 100; i++) await a.backend.bus.publish('t', `${i}`)
    await a.backend.bus.publish('other', '')
    await marker.promise
    await until(() => received.length === 100)
    expect([busy.heard.length, idle.heard.length]).toEqual([100, 1])
  })

  test('many subscriptions, and many messages, take few statements', async () => {
    const pool = watchedPool(url)
    const { backend, schema } = fresh({ pool })
    const publisher = fresh({ schema }).backend
    const received: string[] = []
    const topics = Array.from({ length: 500 }, (_, index) => `topic ${index}`)
    await Promise.all(topics.map((topic) => backend.bus.subscribe(topic, (message) => received.push(message))))
    expect(new Set(pool.channels).size).toBe(500)
    expect(pool.askedOnLine.length).toBeLessThan(20)
    await Promise.all(topics.map((topic) => publisher.bus.publish(topic, topic)))
    await until(() => received.length === topics.length)
    expect(received.toSorted()).toEqual(topics.toSorted())
    expect(pool.askedOnLine.length).toBeLessThan(500)
  })

  test('a channel that nobody is subscribed to any more is left without anything happening', async () => {
    const pool = watchedPool(url)
    const { backend } = fresh({ pool })
    const end = await backend.bus.subscribe('t', () => {})
    await end()
    const [channel] = pool.channels
    await until(() => pool.askedOnLine.some((text) => text.includes(`unlisten "${channel}"`)))
  })

  test('a message whose id is lower, and which commits later, arrives too', async () => {
    const { backend, schema } = fresh()
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    const slow = await admin.connect()
    try {
      await slow.query(`begin; select ${schema}.publish('${channelOf(schema, 't')}', 'lower id', 7000)`)
      await backend.bus.publish('t', 'higher id')
      await until(() => received.length === 1)
      await slow.query('commit')
    } finally {
      slow.release()
    }
    await until(() => received.length === 2)
    expect(received).toEqual(['higher id', 'lower id'])
  })
})
