import { type EventEmitter, once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { Cluster, Redis } from 'ioredis'
import { createClient, createCluster } from 'redis'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { SessionRecord } from '../../src/backend/backend.js'
import { messageBus } from '../../src/backend/redis/bus.js'
import { connectorForClient } from '../../src/backend/redis/client.js'
import { keysFor } from '../../src/backend/redis/keys.js'
import { Link } from '../../src/backend/redis/link.js'
import { requireServer } from '../../src/backend/redis/server.js'
import { type RedisBackend, type RedisOptions, redis } from '../../src/backend/redis.js'
import {
  describeWith,
  redisClusterNodes,
  redisProgram,
  redisUrl,
  startRedis,
  startRedisCluster,
  unique,
} from '../services/use.js'
import { certify } from './contract.js'

const [url, nodes, program] = await Promise.all([redisUrl(), redisClusterNodes(), redisProgram()])

const MINUTE = 60_000

/** Two backends on the same data, as two nodes have. */
function contract(name: string, options: RedisOptions): void {
  const prefix = unique()
  certify(name, async ({ retention }) => {
    const make = () => redis({ ...options, prefix, ...(retention && { retention }) })
    const [backend, peer] = [make(), make()]
    return {
      backend,
      peer,
      async release() {
        await Promise.all([backend.close(), peer.close()])
      },
    }
  })
}

describeWith('Redis', url, (url) => {
  contract('by address', { url })
  const ioredis = new Redis(url, { lazyConnect: true })
  contract('ioredis', { client: ioredis })
  const nodeRedis = createClient({ url })
  contract('node-redis', { client: nodeRedis })
})

describeWith('Redis Cluster', nodes, (nodes) => {
  const ioredis = new Cluster(nodes, { lazyConnect: true })
  contract('ioredis', { client: ioredis })
  const nodeRedis = createCluster({ rootNodes: nodes.map(({ host, port }) => ({ socket: { host, port } })) })
  contract('node-redis', { client: nodeRedis })
})

function recordOf(id: string): SessionRecord {
  return {
    version: 1,
    id,
    revision: 1,
    createdAt: 0,
    principal: null,
    protocolVersion: '2025-11-25',
    journal: { initialize: {}, initialized: true, subscriptions: [] },
  }
}

/** A session with everything that a session can have. */
async function fill(backend: RedisBackend, id: string): Promise<void> {
  expect(await backend.sessions.create(recordOf(id), MINUTE)).toBe(true)
  expect(await backend.sessions.setState(id, 'key', '1')).toBe('ok')
  for (const stream of ['standalone', '{x}', '']) {
    expect(await backend.events.open(id, stream, { head: '{}', writer: 'w' })).toBe(true)
    expect(await backend.events.append(id, stream, { id: 'b', writer: 'w', events: ['1', '2'] })).toBe(2)
    await backend.events.attach(id, stream, 'r')
  }
}

async function empty(backend: RedisBackend, id: string): Promise<void> {
  expect(await backend.sessions.delete(id)).toBe(true)
  await backend.events.delete(id)
}

function closing<T extends { close(): unknown }>(closeable: T): T {
  onTestFinished(async () => void (await closeable.close()))
  return closeable
}

const STRANGE_IDS = ['plain', '', '{', '}', '{}', '}{', '{a}{b}', 'a{b}c', '%', '{%007d}']

describeWith('what Redis keeps', url, (url) => {
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
    await vi.waitFor(async () => expect(await backend.events.read('id', 'old', 0, 1)).toBeUndefined())
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
    for (const [index, { sessions }] of backends.entries()) await sessions.create(recordOf(`${index}${prefix}`), MINUTE)
    for (const [index, { sessions }] of backends.entries()) {
      const listed = []
      for await (const { id } of sessions.list()) if (id.endsWith(prefix)) listed.push(id)
      expect(listed).toEqual([`${index}${prefix}`])
    }
  })
})

describeWith('what a Redis Cluster keeps', nodes, (nodes) => {
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

  test('list finds sessions on every master', async () => {
    const backend = closing(redis({ client: new Cluster(nodes, { lazyConnect: true }), prefix: unique() }))
    const ids = Array.from({ length: 50 }, (_, index) => `${index}`)
    for (const id of ids) await backend.sessions.create(recordOf(id), MINUTE)
    const listed = []
    for await (const { id } of backend.sessions.list()) listed.push(id)
    expect(listed.sort()).toEqual(ids.sort())
  })

  test('the address of a member alone is refused, with what to write instead', async () => {
    const backend = closing(redis({ url: `redis://${nodes[0]?.host}:${nodes[0]?.port}` }))
    await expect(backend.ping()).rejects.toThrow(/part of a Redis Cluster: hand in a cluster client/)
  })
})

describeWith('a client that the user handed in', url, (url) => {
  test('is left open, with the listeners and subscriptions that it had', async () => {
    const ioredis = new Redis(url, { lazyConnect: true })
    await ioredis.connect()
    const nodeRedis = await createClient({ url }).connect()
    onTestFinished(() => {
      ioredis.disconnect()
      nodeRedis.destroy()
    })
    const listeners = (client: EventEmitter) => client.eventNames().map((event) => [event, client.listenerCount(event)])
    for (const client of [ioredis, nodeRedis]) {
      const before = listeners(client)
      const backend = redis({ client, prefix: unique() })
      await backend.ping()
      await (await backend.bus.subscribe('topic', () => {}))()
      await backend.close()
      await backend.close()
      expect(await (client === ioredis ? ioredis.ping() : nodeRedis.ping())).toBe('PONG')
      expect(listeners(client)).toEqual(before)
    }
  })

  test('a closed backend rejects at once', async () => {
    const backend = redis({ url })
    await backend.ping()
    await backend.close()
    await expect(backend.ping()).rejects.toThrow('Redis: the backend was closed')
    await expect(backend.bus.subscribe('t', () => {})).rejects.toThrow('Redis: the backend was closed')
    const unused = redis({ url })
    await unused.close()
    await expect(unused.ping()).rejects.toThrow('Redis: the backend was closed')
  })
})

describeWith('a Redis that goes away', program, () => {
  const kinds: [string, (url: string) => RedisOptions][] = [
    ['by address', (url) => ({ url })],
    ['ioredis', (url) => ({ client: new Redis(url, { lazyConnect: true }) })],
    ['node-redis', (url) => ({ client: createClient({ url }) })],
  ]

  test.each(kinds)(
    'killed and restarted: rejected at once meanwhile, then everything goes on (%s)',
    async (_, make) => {
      const server = await startRedis()
      const backend = closing(redis(make(server.url)))
      const received: string[] = []
      await backend.bus.subscribe('topic', (message) => received.push(message))
      await fill(backend, 'id')

      await server.kill()
      for (let round = 0; round < 3; round++) {
        const begin = performance.now()
        await expect(backend.sessions.load('id')).rejects.toThrow(/^Redis: /)
        await expect(backend.bus.publish('topic', 'lost')).rejects.toThrow(/^Redis: /)
        await expect(backend.bus.subscribe('other', () => {})).rejects.toThrow(/^Redis: /)
        expect(performance.now() - begin).toBeLessThan(1_000)
      }

      await server.restart()
      await vi.waitFor(() => backend.ping(), { timeout: 10_000, interval: 20 })
      expect(await backend.sessions.load('id')).toEqual(recordOf('id'))
      expect(await backend.events.append('id', 'standalone', { id: 'b2', writer: 'w', events: ['3'] })).toBe(3)
      await vi.waitFor(
        async () => {
          await backend.bus.publish('topic', 'after')
          expect(received).toContain('after')
        },
        { timeout: 10_000, interval: 20 },
      )
      expect(received).not.toContain('lost')
    },
  )

  test('frozen: rejected after a while, then at once, then everything goes on', { timeout: 60_000 }, async () => {
    const server = await startRedis()
    const backends = kinds.map(([, make]) => closing(redis({ ...make(server.url), prefix: unique() })))
    await Promise.all(
      backends.map(async (backend) => {
        await backend.bus.subscribe('topic', () => {})
        await fill(backend, 'id')
      }),
    )
    server.pause()
    await Promise.all(
      backends.map((backend) => expect(backend.sessions.load('id')).rejects.toThrow(/no answer within/)),
    )
    for (const backend of backends) {
      const begin = performance.now()
      await expect(backend.sessions.load('id')).rejects.toThrow(/^Redis: /)
      expect(performance.now() - begin).toBeLessThan(200)
    }
    server.resume()
    await Promise.all(
      backends.map(async (backend) => {
        await vi.waitFor(() => backend.ping(), { timeout: 10_000, interval: 20 })
        expect(await backend.sessions.load('id')).toEqual(recordOf('id'))
        const arrived = new Promise<string>((resolve) => {
          vi.waitFor(() => backend.bus.subscribe('topic', resolve), { timeout: 10_000 }).then(() =>
            backend.bus.publish('topic', 'after'),
          )
        })
        expect(await arrived).toBe('after')
      }),
    )
  })

  test('not there yet: rejected, and used as soon as it is', async () => {
    const server = await startRedis()
    await server.kill()
    const backends = kinds.map(([, make]) => closing(redis(make(server.url))))
    for (const backend of backends) await expect(backend.ping()).rejects.toThrow(/^Redis: .*ECONNREFUSED/)
    await server.restart()
    for (const backend of backends) {
      await vi.waitFor(() => backend.ping(), { timeout: 10_000, interval: 20 })
    }
  })

  test('a password is neither in the name nor in an error', async () => {
    const server = await startRedis()
    const url = server.url.replace('redis://', 'redis://default:hunter2secret@')
    const admin = new Redis(server.url)
    onTestFinished(() => admin.disconnect())
    await admin.config('SET', 'requirepass', 'anothersecret')
    for (const [, make] of kinds) {
      const backend = closing(redis(make(url)))
      const error: unknown = await backend.ping().catch((reason: unknown) => reason)
      expect(error).toBeInstanceOf(Error)
      const told = [backend.name, String(error), JSON.stringify(error), (error as Error).stack].join()
      expect(told).toMatch(/WRONGPASS/)
      expect(told).not.toContain('hunter2secret')
      expect((error as Error).cause).toBeUndefined()
    }
  })
})

describeWith('a Redis Cluster that goes away', program, () => {
  test('frozen, then killed: rejected meanwhile, then everything goes on', { timeout: 90_000 }, async () => {
    const cluster = await startRedisCluster()
    const { nodes } = cluster
    const clients = [
      new Cluster(nodes, { lazyConnect: true }),
      createCluster({ rootNodes: nodes.map(({ host, port }) => ({ socket: { host, port } })) }),
    ]
    const users = await Promise.all(
      clients.map(async (client) => {
        const backend = closing(redis({ client, prefix: unique() }))
        const received: string[] = []
        await backend.bus.subscribe('topic', (message) => received.push(message))
        for (const id of ['a', 'b', 'c', 'd']) await backend.sessions.create(recordOf(id), MINUTE)
        return { backend, received }
      }),
    )
    const away = () =>
      Promise.all(users.map(({ backend }) => expect(backend.sessions.load('a')).rejects.toThrow(/^Redis: /)))
    const back = (mark: string) =>
      Promise.all(
        users.map(async ({ backend, received }) => {
          const soon = { timeout: 40_000, interval: 50 }
          await vi.waitFor(async () => {
            for (const id of ['a', 'b', 'c', 'd']) expect(await backend.sessions.load(id)).toEqual(recordOf(id))
          }, soon)
          await vi.waitFor(async () => {
            await backend.bus.publish('topic', mark)
            expect(received).toContain(mark)
          }, soon)
        }),
      )

    cluster.pause()
    await away()
    await away()
    cluster.resume()
    await back('thawed')

    await cluster.kill()
    await away()
    await cluster.restart()
    await back('restarted')
  })
})

describeWith('a subscription that is lost without an error', url, (url) => {
  test('is noticed and made again', async () => {
    const { port, freeze } = await proxy(url)
    const client = new Redis(port, '127.0.0.1', { lazyConnect: true })
    const link = new Link(async () => connectorForClient(new Redis(url, { lazyConnect: true })))
    const bus = messageBus(link, keysFor(unique()), async () => connectorForClient(client), {
      checkEvery: 20,
      checkLimit: 100,
    })
    onTestFinished(() => {
      bus.close()
      link.close()
    })
    let received = 0
    await bus.subscribe('topic', () => received++)
    await bus.publish('topic', '')
    await vi.waitFor(() => expect(received).toBe(1))

    freeze()
    await bus.publish('topic', 'lost')
    await vi.waitFor(
      async () => {
        await bus.publish('topic', '')
        expect(received).toBeGreaterThan(1)
      },
      { timeout: 10_000 },
    )
  })
})

/** A way to Redis that can lose the connections it has without closing them. */
async function proxy(url: string): Promise<{ port: number; freeze(): void }> {
  const { hostname, port } = new URL(url)
  const sockets: Socket[] = []
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    near.pipe(far).pipe(near)
    for (const socket of [near, far]) {
      socket.on('error', () => {})
      sockets.push(socket)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not a TCP address')
  return {
    port: address.port,
    freeze() {
      for (const socket of sockets) {
        socket.unpipe()
        socket.pause()
      }
    },
  }
}

describe('redis() refuses', () => {
  test.each([
    ['', /not a URL; write redis:/],
    ['localhost:6379', /the protocol is neither redis: nor rediss:; write redis:/],
    ['127.0.0.1:6379', /not a URL; write redis:/],
    ['http://:secret@localhost', /the protocol is neither redis: nor rediss:; write redis:/],
    ['redis://', /there is no host; write redis:/],
    ['redis://:secret@', /write redis:/],
    ['redis:///0', /there is no host; write redis:/],
    ['redis://user:secret@host:notaport', /not a URL; write redis:/],
    ['redis://user:secret@host/name', /the database is not a number; write redis:/],
  ])('the address %j, saying what to write', (url, message) => {
    expect(() => redis({ url })).toThrow(message)
    expect(() => redis({ url })).not.toThrow(/secret/)
  })

  test('a prefix with braces', () => {
    expect(() => redis({ url: 'redis://localhost', prefix: '{a}' })).toThrow(/may contain \{ or \}/)
  })

  test('what is no client, and options without either', () => {
    expect(() => redis(JSON.parse('{"client":{}}'))).toThrow(/not a client of ioredis or redis/)
    expect(() => redis(JSON.parse('{"client":"redis://localhost"}'))).toThrow(/not a client of ioredis or redis/)
    expect(() => redis(JSON.parse('{}'))).toThrow(/either `url` .* or `client`/)
  })

  test('a server that is too old, saying what is needed', async () => {
    const info = async () => 'redis_version:6.2.14\r\nredis_mode:standalone\r\n'
    await expect(requireServer(info, true)).rejects.toThrow('Redis 6.2.14, but mcp-roam needs Redis 7 or later')
    await requireServer(async () => 'redis_version:7.2.4\r\nserver_name:valkey\r\n', true)
    await requireServer(() => Promise.reject(new Error('NOPERM this user has no permissions')), true)
  })

  test('nothing of the name but host, port and database', () => {
    expect(redis({ url: 'rediss://user:secret@example.com:6380/2?x=secret' }).name).toBe('redis:example.com:6380/2')
    expect(redis({ client: createClient({ url: 'redis://:secret@host' }) }).name).toBe('redis (node-redis)')
  })
})
