/** Messages in a Redis Cluster: each goes to the shard of its channel, whichever server that is by now. */
import { Cluster, Redis } from 'ioredis'
import { createCluster } from 'redis'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { messageBus } from '../../../src/backend/redis/bus.js'
import { connectorForClient, type RedisClient } from '../../../src/backend/redis/client.js'
import { keysFor } from '../../../src/backend/redis/keys.js'
import { Link } from '../../../src/backend/redis/link.js'
import { slotOf } from '../../../src/backend/redis/slot.js'
import { TIMING } from '../../../src/backend/redis/subscriptions.js'
import { describeWith, redisProgram, startRedisCluster, unique } from '../../services/use.js'
import { closing } from './fixture.js'

type Nodes = { host: string; port: number }[]

const kinds: Record<string, (nodes: Nodes) => RedisClient> = {
  ioredis: (nodes) => new Cluster(nodes, { lazyConnect: true }),
  'node-redis': (nodes) =>
    createCluster({ rootNodes: nodes.map(({ host, port }) => ({ url: `redis://${host}:${port}` })) }),
}
const SOON = { timeout: 30_000, interval: 20 }
/** Neither looks nor tests: what comes back has come back by itself. */
const NEVER = { ...TIMING, lookEvery: 3_600_000, testEvery: 3_600_000 }

const slots = 16_384
/** Which of the three masters has the channel's slot at the beginning. */
const shardOf = (channel: string) => [1, 2].filter((i) => slotOf(channel) >= Math.floor((slots * i) / 3)).length

async function open(of: (nodes: Nodes) => RedisClient, options: { replicas?: boolean } = {}, timing = TIMING) {
  const cluster = await startRedisCluster(options)
  const admins = cluster.nodes.map(({ host, port }) => {
    const admin = new Redis(port, host, { retryStrategy: () => 200 })
    admin.on('error', () => {})
    onTestFinished(() => admin.disconnect())
    return admin
  })
  const connector = connectorForClient(of(cluster.nodes))
  const keys = keysFor('app')
  const make = () => {
    const link = closing(new Link(async () => connector))
    return closing(messageBus(link, keys, async () => connector, { sharded: true, timing }))
  }
  /** Topics of a shard. */
  const topics = (shard: number, count: number): string[] => {
    const found: string[] = []
    for (let i = 0; found.length < count; i++) if (shardOf(keys.channel(`t${i}`)) === shard) found.push(`t${i}`)
    return found
  }
  const calls = (command: string) =>
    Promise.all(
      admins.map(async (admin) =>
        Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await admin.info('commandstats'))?.[1] ?? 0),
      ),
    )
  /** How many subscribers of the topic each of the servers has. */
  const subscribers = (topic: string) =>
    Promise.all(
      admins.map(async (admin) => {
        const reply = await admin.call('PUBSUB', 'SHARDNUMSUB', keys.channel(topic))
        return Array.isArray(reply) ? Number(reply[1]) : 0
      }),
    )
  return { cluster, admins, make, topics, calls, subscribers, channel: keys.channel }
}

type Bus = ReturnType<Awaited<ReturnType<typeof open>>['make']>

/** Publishes until it is heard. */
async function heard(bus: Bus, topic: string, received: string[], mark: string): Promise<void> {
  await vi.waitFor(async () => {
    await bus.publish(topic, mark)
    expect(received).toContain(mark)
  }, SOON)
}

async function subscribe(bus: Bus, topic: string): Promise<string[]> {
  const received: string[] = []
  await bus.subscribe(topic, (message) => received.push(message))
  return received
}

describeWith('Redis Cluster', await redisProgram(), () => {
  describe.each(Object.entries(kinds))('%s', (_, of) => {
    test('a message touches the shard of its channel alone, and messages keep their order', {
      timeout: 60_000,
    }, async () => {
      const { admins, make, topics, calls, subscribers } = await open(of)
      const [here, there] = [make(), make()]
      const numbers = Array.from({ length: 200 }, (_, i) => `${i}`)
      for (const shard of [0, 1, 2]) {
        const [topic = ''] = topics(shard, 1)
        const received = await subscribe(here, topic)
        await subscribe(there, topic)
        for (const admin of admins) await admin.config('RESETSTAT')
        await Promise.all(numbers.map((number) => there.publish(topic, number)))
        await vi.waitFor(() => expect(received).toHaveLength(numbers.length), SOON)
        expect(received).toEqual(numbers)
        const published = await calls('spublish')
        expect(published.map((count, i) => (i === shard ? count - numbers.length : count))).toEqual([0, 0, 0])
        expect(await calls('publish')).toEqual([0, 0, 0])
        expect(await subscribers(topic)).toEqual([0, 1, 2].map((i) => (i === shard ? 2 : 0)))
      }
      // Nothing went from one server to another.
      for (const admin of admins) {
        expect(String(await admin.cluster('INFO'))).not.toMatch(/messages_publish(shard)?_(sent|received)/)
      }
    })

    test('subscriptions follow a slot that moves, as soon as it does', { timeout: 60_000 }, async () => {
      const { admins, make, topics, subscribers, channel } = await open(of, {}, NEVER)
      const [here, there] = [make(), make()]
      const [stays = '', ...others] = topics(0, 4)
      const received = new Map<string, string[]>()
      for (const topic of [stays, ...others]) received.set(topic, await subscribe(here, topic))
      // The one that publishes has not heard of the moves either.
      await there.publish(stays, 'before')
      const ids = await Promise.all(admins.map((admin) => admin.cluster('MYID')))
      let to = 0
      // There, on, and back again.
      for (const step of [1, 2, 0]) {
        to = step
        for (const topic of others) {
          const slot = slotOf(channel(topic))
          // The one that gets it first, then the one that loses it.
          for (const i of [to, 0, 1, 2]) await admins[i]?.call('CLUSTER', 'SETSLOT', slot, 'NODE', String(ids[to]))
        }
        for (const topic of others) {
          await heard(there, topic, received.get(topic) ?? [], `at ${to}`)
          await vi.waitFor(
            async () => expect(await subscribers(topic)).toEqual([0, 1, 2].map((i) => (i === to ? 1 : 0))),
            SOON,
          )
        }
        await there.publish(stays, `at ${to}`)
      }
      await vi.waitFor(() => expect(received.get(stays)).toEqual(['before', 'at 1', 'at 2', 'at 0']), SOON)
    })

    test('subscriptions come back with the replica of a master that was killed; those of other shards never went', {
      timeout: 90_000,
    }, async () => {
      const { cluster, make, topics } = await open(of, { replicas: true })
      const [here, there] = [make(), make()]
      const [[lost = ''], [kept = '']] = [topics(0, 1), topics(1, 1)]
      const [atLost, atKept] = [await subscribe(here, lost), await subscribe(here, kept)]
      await cluster.server(cluster.nodes[0]?.port ?? 0).kill()
      let sent = 0
      await vi.waitFor(async () => {
        await there.publish(kept, `${sent}`)
        sent++
        await there.publish(lost, 'after')
        expect(atLost).toContain('after')
      }, SOON)
      await there.publish(kept, 'last')
      await vi.waitFor(() => expect(atKept).toContain('last'), SOON)
      expect(atKept).toEqual([...Array.from({ length: sent }, (_, i) => `${i}`), 'last'])
    })

    test('a planned failover loses no subscription', { timeout: 60_000 }, async () => {
      const { admins, make, topics, subscribers } = await open(of, { replicas: true })
      const [here, there] = [make(), make()]
      const [topic = ''] = topics(0, 1)
      const received = await subscribe(here, topic)
      // It is given up when it takes five seconds.
      const promoted = async () => expect(await admins[3]?.info('replication')).toMatch(/role:master/)
      await vi.waitFor(async () => {
        await promoted().catch(() => admins[3]?.call('CLUSTER', 'FAILOVER'))
        await vi.waitFor(promoted, { timeout: 6_000 })
      }, SOON)
      await heard(there, topic, received, 'after')
      // Sooner or later the connection leads to the new master, and none is left over.
      await heard(here, topic, received, 'learnt')
      await vi.waitFor(async () => expect((await subscribers(topic)).indexOf(1)).toBe(3), SOON)
      expect((await subscribers(topic)).filter(Boolean)).toEqual([1])
      const numbers = Array.from({ length: 100 }, (_, i) => `n${i}`)
      await Promise.all(numbers.map((number) => there.publish(topic, number)))
      await vi.waitFor(() => expect(received.filter((text) => text.startsWith('n'))).toHaveLength(100), SOON)
      expect(received.filter((text) => text.startsWith('n'))).toEqual(numbers)
    })

    test('a shard that does not answer is noticed by itself, and leaves the others as they are', {
      timeout: 60_000,
    }, async () => {
      const { cluster, admins, make, topics, subscribers } = await open(of)
      const [here, there] = [make(), make()]
      const [[lost = ''], [kept = '']] = [topics(0, 1), topics(1, 1)]
      const [atLost, atKept] = [await subscribe(here, lost), await subscribe(here, kept)]
      const clients = async () =>
        String(await admins[1]?.call('CLIENT', 'LIST', 'TYPE', 'pubsub')).match(/^id=\d+/gm) ?? []
      await there.publish(kept, 'before')
      const before = await clients()
      expect(before).toHaveLength(1)
      const server = cluster.server(cluster.nodes[0]?.port ?? 0)
      server.pause()
      onTestFinished(() => server.resume())
      for (let i = 0; i < 50; i++) await there.publish(kept, `${i}`)
      await expect(there.publish(lost, 'x')).rejects.toThrow(/^Redis: /)
      server.resume()
      await heard(there, lost, atLost, 'after')
      expect(atKept).toEqual(['before', ...Array.from({ length: 50 }, (_, i) => `${i}`)])
      expect(await clients()).toEqual(before)
      await vi.waitFor(async () => expect(await subscribers(lost)).toEqual([1, 0, 0]), SOON)
    })
  })

  test('slots are those that the server says', async () => {
    const { admins } = await open(kinds.ioredis as (nodes: Nodes) => RedisClient)
    for (const name of ['', 'a', 'foo{bar}baz', '{}a', 'a{}{b}', '{a', 'a}b{c}', '{{a}}', 'a{b}{c}', 'ü€𝄞', unique()]) {
      expect(slotOf(name), name).toBe(Number(await admins[0]?.cluster('KEYSLOT', name)))
    }
  })
})
