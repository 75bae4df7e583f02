/** Connections that subscribe are found dead, and made again, as soon as those for commands. */
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { expect, test, vi } from 'vitest'
import { messageBus } from '../../../src/backend/redis/bus.js'
import { connectorForClient, type RedisClient } from '../../../src/backend/redis/client.js'
import { keysFor } from '../../../src/backend/redis/keys.js'
import { Link } from '../../../src/backend/redis/link.js'
import { TIMING } from '../../../src/backend/redis/subscriptions.js'
import { redis } from '../../../src/backend/redis.js'
import { describeWith, redisProgram, startRedis, unique } from '../../services/use.js'
import { closing, connection } from './fixture.js'
import { line } from './line.js'

const kinds: [string, (url: string) => RedisClient][] = [
  ['ioredis', (url) => new Redis(url, { lazyConnect: true })],
  ['node-redis', (url) => createClient({ url })],
]

/** A bus that publishes and subscribes over ways of its own. */
function busOver(publish: RedisClient, subscribe: RedisClient, timing = TIMING) {
  const link = closing(new Link(async () => connectorForClient(publish)))
  return closing(messageBus(link, keysFor(unique()), async () => connectorForClient(subscribe), { timing }))
}

/** Publishes until it is heard; resolves with when that was. */
async function heard(bus: ReturnType<typeof busOver>, topic: string, received: string[], mark: string) {
  await vi.waitFor(
    async () => {
      await bus.publish(topic, mark)
      expect(received).toContain(mark)
    },
    { timeout: 20_000, interval: 20 },
  )
  return performance.now()
}

describeWith('Redis', await redisProgram(), () => {
  test.each(kinds)(
    'a subscribing connection on which nothing passes any more is found within seconds (%s)',
    { timeout: 60_000 },
    async (_, of) => {
      const server = await startRedis()
      const way = await line(server.url)
      const bus = busOver(of(server.url), of(way.url))
      const received: string[] = []
      await bus.subscribe('topic', (message) => received.push(message))
      const silenced = performance.now()
      way.silence()
      await bus.publish('topic', 'lost')
      expect((await heard(bus, 'topic', received, 'after')) - silenced).toBeLessThan(8_000)
      expect(received).not.toContain('lost')
      expect(way.connections).toBe(2)
    },
  )

  test.each(kinds)(
    'after an outage in which nothing passed, messages arrive as soon as commands work (%s)',
    { timeout: 60_000 },
    async (_, of) => {
      const server = await startRedis()
      const way = await line(server.url)
      const backend = closing(redis({ client: of(way.url), prefix: unique() }))
      const received: string[] = []
      await backend.bus.subscribe('topic', (message) => received.push(message))
      way.silence(true)
      await expect(backend.ping()).rejects.toThrow(/no answer within/)
      // Attempts to connect that will never be answered are under way.
      const before = way.connections
      await vi.waitFor(() => expect(way.connections).toBeGreaterThanOrEqual(before + 2), { timeout: 20_000 })
      way.heal()
      const healed = performance.now()
      await vi.waitFor(() => backend.ping(), { timeout: 20_000, interval: 20 })
      const commands = performance.now()
      const messages = await heard(backend.bus as ReturnType<typeof busOver>, 'topic', received, 'after')
      expect(commands - healed).toBeLessThan(8_000)
      expect(messages - commands).toBeLessThan(5_000)
    },
  )

  test.each(kinds)('a subscribing connection that the server closes is made again at once (%s)', async (_, of) => {
    const server = await startRedis()
    const backend = closing(redis({ client: of(server.url), prefix: unique() }))
    const received: string[] = []
    await backend.bus.subscribe('topic', (message) => received.push(message))
    const client = connection(server.url)
    for (const mark of ['first', 'second', 'third']) {
      expect(await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub')).toBe(1)
      const begin = performance.now()
      expect((await heard(backend.bus as ReturnType<typeof busOver>, 'topic', received, mark)) - begin).toBeLessThan(
        5_000,
      )
    }
  })

  test('what that costs does not grow with the channels', { timeout: 60_000 }, async () => {
    const server = await startRedis()
    const client = connection(server.url)
    const bus = busOver(new Redis(server.url, { lazyConnect: true }), new Redis(server.url, { lazyConnect: true }), {
      lookEvery: 20,
      testEvery: 200,
      limit: 5_000,
    })
    const calls = async (command: string) =>
      Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await client.info('commandstats'))?.[1] ?? 0)
    for (const channels of [1, 100]) {
      for (let i = 0; i < channels; i++) await bus.subscribe(`topic ${channels} ${i}`, () => {})
      await client.config('RESETSTAT')
      await vi.waitFor(async () => expect(await calls('ping')).toBeGreaterThan(40), { timeout: 20_000 })
      const pings = await calls('ping')
      expect(await calls('subscribe')).toBe(0)
      expect(await calls('publish')).toBeLessThanOrEqual(pings / 9 + 2)
      expect(await calls('publish')).toBeGreaterThan(0)
    }
  })
})
