import { Cluster, Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { BATCH_TTL, FINISHED_TTL, MAX_STREAMS, RECENT_BATCHES, STREAM_WEIGHT } from '../../../src/backend/backend.js'
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

  test('a stream that has ended expires soon, and one with a writer keeps no set of batches', async () => {
    const prefix = unique()
    const backend = closing(redis({ url, prefix }))
    const client = new Redis(url)
    onTestFinished(() => client.disconnect())
    const keys = keysFor(prefix)
    const left = () => Promise.all([keys.stream('a', 's'), keys.events('a', 's')].map((key) => client.pttl(key)))
    await backend.events.open('a', 's', { head: '{}', writer: 'w' })
    await backend.events.append('a', 's', { id: 'b1', writer: 'w', events: ['1'] })
    for (const ttl of await left()) expect(ttl).toBeGreaterThan(FINISHED_TTL + MINUTE)
    await backend.events.append('a', 's', { id: 'b2', writer: 'w', events: ['2'], end: true })
    for (const ttl of await left()) expect(ttl).toBeLessThanOrEqual(FINISHED_TTL)
    await backend.events.keep([{ session: 'a', stream: 's' }])
    for (const ttl of await left()) expect(ttl).toBeLessThanOrEqual(FINISHED_TTL)
    for (const ttl of await left()) expect(ttl).toBeGreaterThan(FINISHED_TTL - MINUTE)
    expect(await client.exists(keys.batches('a', 's'))).toBe(0)
  })

  test('the ids of batches are forgotten: all but the newest, what is old, and all of a stream that is quiet', async () => {
    const prefix = unique()
    const { events } = closing(redis({ url, prefix }))
    const client = new Redis(url)
    onTestFinished(() => client.disconnect())
    const keys = keysFor(prefix)
    const batches = keys.batches('a', 's')
    await events.open('a', 's', { head: '{}' })
    const append = (from: number, count: number) =>
      Promise.all(
        Array.from({ length: count }, (_, index) => events.append('a', 's', { id: `b${from + index}`, events: ['1'] })),
      )
    await append(0, RECENT_BATCHES + 200)
    await events.append('a', 's', { id: 'k', events: [] })
    expect(await client.zcard(batches)).toBe(RECENT_BATCHES)
    expect(await client.pttl(batches)).toBeLessThanOrEqual(BATCH_TTL)
    // The clock of the server cannot be turned: the time has come twice, and what came before the first goes at the second.
    await client.hset(keys.stream('a', 's'), 'forgetAt', 0)
    await append(2000, 10)
    await client.hset(keys.stream('a', 's'), 'forgetAt', 0)
    await append(3000, 10)
    expect(await client.zcard(batches)).toBeLessThanOrEqual(20)
    expect(await events.append('a', 's', { id: 'b2005', events: ['1'] })).toBe(RECENT_BATCHES + 206)
  })

  test('look is one command for many streams', async () => {
    const prefix = unique()
    const { events } = closing(redis({ url, prefix }))
    const client = new Redis(url)
    const monitor = await new Redis(url).monitor()
    onTestFinished(() => {
      client.disconnect()
      monitor.disconnect()
    })
    const names = Array.from({ length: MAX_STREAMS }, (_, index) => ({ session: `s${index}`, stream: 's' }))
    for (const { session, stream } of names) await events.open(session, stream, { head: '{}' })
    /** Resolves when the monitor has told all that was sent so far. */
    const seen = async () => {
      const mark = unique()
      const marked = new Promise<void>((resolve) =>
        monitor.on('monitor', (_time: string, args: string[]) => args.includes(mark) && resolve()),
      )
      await client.ping(mark)
      await marked
    }
    // The server knows the scripts from here on.
    await events.look(names)
    await events.keep(names)
    await seen()
    const commands: string[] = []
    monitor.on('monitor', (_time: string, args: string[], source: string) => {
      if (source !== 'lua' && args.some((arg) => arg.startsWith(prefix))) commands.push(args[0]?.toLowerCase() ?? '')
    })
    await events.look(names)
    await events.keep(names)
    await seen()
    expect(commands).toEqual(['evalsha', 'evalsha'])
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

  test('what streams weigh is right after some have expired without a word', async () => {
    const prefix = unique()
    const keys = keysFor(prefix)
    const client = new Redis(url)
    onTestFinished(() => client.disconnect())
    const weights = () => client.hgetall(keys.weights('a'))
    const brief = closing(redis({ url, prefix, retention: { ttl: 20 } }))
    for (const stream of ['done', 'open']) await brief.events.open('a', stream, { head: '{}' })
    const append = { id: 'b', events: ['1', '2'] }
    await brief.events.append('a', 'done', { ...append, end: true })
    await brief.events.append('a', 'open', append)
    const weight = STREAM_WEIGHT + 4
    const { events } = closing(redis({ url, prefix }))
    expect(await weights()).toEqual({ done: `${weight}`, open: `${weight}`, '%': `${2 * weight}` })
    // Else they would expire with the streams.
    await client.persist(keys.weights('a'))
    await client.persist(keys.spare('a'))
    await client.persist(keys.streams('a'))
    await until(async () => (await events.read('a', 'open', 0, 1)) === undefined)
    await events.open('a', 'new', { head: '{}' })
    expect(await weights()).toEqual({ '%': '0' })
    expect(await client.exists(keys.spare('a'))).toBe(0)
  })

  test('streams and state of a version that knew of no budget are measured', async () => {
    const prefix = unique()
    const keys = keysFor(prefix)
    const { events, sessions } = closing(redis({ url, prefix, retention: { maxSessionBytes: 5000 } }))
    const client = new Redis(url)
    onTestFinished(() => client.disconnect())
    for (const stream of ['s', 't']) {
      await events.open('a', stream, { head: '{}' })
      await events.append('a', stream, { id: 'b1', events: ['x'.repeat(1400), '2'] })
      await client.hdel(keys.stream('a', stream), 'headSize')
    }
    await client.del(keys.weights('a'), keys.spare('a'))
    await events.append('a', 's', { id: 'b2', events: ['3'] })
    expect(await client.hget(keys.weights('a'), '%')).toBe(`${STREAM_WEIGHT + 1402}`)
    await events.append('a', 't', { id: 'b2', events: ['x'.repeat(1000)] })
    expect((await events.read('a', 's', 0, 10))?.first).toBe(2)
    await sessions.create(record('a'), MINUTE)
    await sessions.setState('a', 'key', '"1234"')
    await client.hdel(keys.session('a'), 'size:key')
    const limit = { keys: 10, size: 20 }
    expect(await sessions.setState('a', 'more', '"1234567"', undefined, limit)).toBe('too-large')
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
          names.weights(session),
          names.spare(session),
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
