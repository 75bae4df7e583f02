import { Cluster, Redis } from 'ioredis'
import { createCluster } from 'redis'
import { expect, onTestFinished, test, vi } from 'vitest'
import { redis } from '../../../src/backend/redis.js'
import { describeWith, redisProgram, startRedis, startRedisCluster, unique } from '../../services/use.js'
import { record } from '../record.js'
import { closing, fill, KINDS, MINUTE } from './fixture.js'

const program = await redisProgram()

describeWith('Redis', program, () => {
  test.each(KINDS)(
    'while the server is killed calls reject at once; after its restart everything goes on (%s)',
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
      expect((await backend.sessions.load('id'))?.record).toEqual(record('id'))
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

  test('while the server is frozen calls reject, the later ones at once; then everything goes on', {
    timeout: 60_000,
  }, async () => {
    const server = await startRedis()
    const backends = KINDS.map(([, make]) => closing(redis({ ...make(server.url), prefix: unique() })))
    await Promise.all(
      backends.map(async (backend) => {
        await backend.bus.subscribe('topic', () => {})
        await fill(backend, 'id')
      }),
    )
    server.pause()
    const paused = performance.now()
    await Promise.all(
      backends.map((backend) => expect(backend.sessions.load('id')).rejects.toThrow(/no answer within/)),
    )
    const patience = performance.now() - paused
    for (const backend of backends) {
      const begin = performance.now()
      await expect(backend.sessions.load('id')).rejects.toThrow(/^Redis: /)
      expect(performance.now() - begin).toBeLessThan(patience / 5)
    }
    server.resume()
    await Promise.all(
      backends.map(async (backend) => {
        await vi.waitFor(() => backend.ping(), { timeout: 10_000, interval: 20 })
        expect((await backend.sessions.load('id'))?.record).toEqual(record('id'))
        const arrived = new Promise<string>((resolve) => {
          vi.waitFor(() => backend.bus.subscribe('topic', resolve), { timeout: 10_000 }).then(() =>
            backend.bus.publish('topic', 'after'),
          )
        })
        expect(await arrived).toBe('after')
      }),
    )
  })

  test('a server that is not there yet is used as soon as it is', async () => {
    const server = await startRedis()
    await server.kill()
    const backends = KINDS.map(([, make]) => closing(redis(make(server.url))))
    for (const backend of backends) await expect(backend.ping()).rejects.toThrow(/^Redis: .*ECONNREFUSED/)
    await server.restart()
    for (const backend of backends) {
      await vi.waitFor(() => backend.ping(), { timeout: 10_000, interval: 20 })
    }
  })

  test("a password is neither in the backend's name nor in an error", async () => {
    const server = await startRedis()
    const url = server.url.replace('redis://', 'redis://default:hunter2secret@')
    const admin = new Redis(server.url)
    onTestFinished(() => admin.disconnect())
    await admin.config('SET', 'requirepass', 'anothersecret')
    for (const [, make] of KINDS) {
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

describeWith('Redis Cluster', program, () => {
  test('while the cluster is frozen or killed calls reject; then everything goes on', { timeout: 90_000 }, async () => {
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
        for (const id of ['a', 'b', 'c', 'd']) await backend.sessions.create(record(id), MINUTE)
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
            for (const id of ['a', 'b', 'c', 'd']) expect((await backend.sessions.load(id))?.record).toEqual(record(id))
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
