import { Cluster, Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { keysFor } from '../../../src/backend/redis/keys.js'
import { redis } from '../../../src/backend/redis.js'
import { until } from '../../harness/within.js'
import { describeWith, redisClusterNodes, redisUrl, unique } from '../../services/use.js'
import { record } from '../record.js'
import { closing, empty, fill, MINUTE } from './fixture.js'

const STRANGE_IDS = ['plain', '', '{', '}', '{}', '}{', '{a}{b}', 'a{b}c', '%', '{%007d}']

describeWith('what Redis keeps', await redisUrl(), (url) => {
  test('a deleted session leaves nothing but its tombstone', async () => {
    const prefix = unique()
    const backend = closing(redis({ url, prefix }))
    const client = new Redis(url)
    onTestFinished(() => client.disconnect())
    for (const [index, id] of STRANGE_IDS.entries()) {
      await fill(backend, id)
      expect(await client.keys(`${prefix}:*`)).toHaveLength(index + 1 + 10)
      await empty(backend, id)
      const left = await client.keys(`${prefix}:*`)
      expect(left.filter((key) => !key.startsWith(`${prefix}:deleted:`))).toEqual([])
      expect(left).toHaveLength(index + 1)
    }
  })

  test('every key expires', async () => {
    const prefix = unique()
    const backend = closing(redis({ url, prefix }))
    const client = new Redis(url)
    onTestFinished(() => client.disconnect())
    await fill(backend, 'kept')
    await fill(backend, 'deleted')
    await empty(backend, 'deleted')
    await backend.bus.beat('node', MINUTE)
    const keys = await client.keys(`${prefix}:*`)
    expect(keys).toHaveLength(13)
    for (const key of keys) expect(await client.pttl(key), key).toBeGreaterThan(0)
  })

  test("a session's list of streams forgets those that expired", async () => {
    const prefix = unique()
    const backend = closing(redis({ url, prefix, retention: { ttl: 20 } }))
    const client = new Redis(url)
    onTestFinished(() => client.disconnect())
    await backend.events.open('id', 'old', { head: '{}' })
    await until(async () => (await backend.events.read('id', 'old', 0, 1)) === undefined)
    const patient = closing(redis({ url, prefix }))
    await patient.events.open('id', 'new', { head: '{}' })
    expect(await client.zrange(keysFor(prefix).streams('id'), 0, -1)).toEqual(['new'])
  })

  test("a client's keyPrefix is part of every key, and list finds them", async () => {
    const client = new Redis(url, { lazyConnect: true, keyPrefix: 'app[1]*:' })
    const prefix = unique()
    const backend = closing(redis({ client, prefix }))
    await fill(backend, 'id')
    const listed = []
    for await (const { id } of backend.sessions.list()) listed.push(id)
    expect(listed).toEqual(['id'])
    const admin = new Redis(url)
    onTestFinished(() => admin.disconnect())
    expect(await admin.exists(`app[1]*:${prefix}:session:{id}`)).toBe(1)
  })

  test('prefixes that are patterns or begin alike see nothing of each other', async () => {
    const prefix = unique()
    const backends = [prefix, `${prefix}:session`, `${prefix}*`, '*'].map((each) =>
      closing(redis({ url, prefix: each })),
    )
    for (const [index, { sessions }] of backends.entries()) await sessions.create(record(`${index}${prefix}`), MINUTE)
    for (const [index, { sessions }] of backends.entries()) {
      const listed = []
      for await (const { id } of sessions.list()) if (id.endsWith(prefix)) listed.push(id)
      expect(listed).toEqual([`${index}${prefix}`])
    }
  })
})

describeWith('what a Redis Cluster keeps', await redisClusterNodes(), (nodes) => {
  test('all keys of a session are in one hash slot, and sessions are spread', async () => {
    const prefix = unique()
    const client = new Cluster(nodes)
    onTestFinished(() => client.disconnect())
    const backend = closing(redis({ client, prefix }))
    const slots = new Set<number>()
    const seen = new Set<string>()
    for (const id of STRANGE_IDS) {
      await fill(backend, id)
      await backend.events.delete(id)
      await backend.events.open(`${id}other`, 's', { head: '{}' })
      await backend.sessions.delete(`${id}tombstone`)
      for (const session of [id, `${id}other`, `${id}tombstone`]) {
        const names = keysFor(prefix)
        const expected = await client.cluster('KEYSLOT', names.session(session))
        for (const key of [
          names.deleted(session),
          names.streams(session),
          names.stream(session, '}{a}'),
          names.events(session, '{b}'),
          names.batches(session, '{c}'),
        ]) {
          expect(await client.cluster('KEYSLOT', key)).toBe(expected)
          expect(seen.has(key)).toBe(false)
          seen.add(key)
        }
        slots.add(Number(expected))
      }
    }
    expect(slots.size).toBeGreaterThan(STRANGE_IDS.length)
  })
})
