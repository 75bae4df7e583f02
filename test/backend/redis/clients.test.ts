import type { EventEmitter } from 'node:events'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { expect, onTestFinished, test } from 'vitest'
import { requireServer } from '../../../src/backend/redis/server.js'
import { redis } from '../../../src/backend/redis.js'
import { describeWith, redisClusterNodes, redisUrl, unique } from '../../services/use.js'
import { closing } from './fixture.js'

describeWith('Redis', await redisUrl(), (url) => {
  test('a client of the user is left open, with the listeners and subscriptions that it had', async () => {
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

  test('a closed backend rejects every call at once', async () => {
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

describeWith('Redis Cluster', await redisClusterNodes(), (nodes) => {
  test('the address of a member of a cluster is refused, with what to write instead', async () => {
    const backend = closing(redis({ url: `redis://${nodes[0]?.host}:${nodes[0]?.port}` }))
    await expect(backend.ping()).rejects.toThrow(/part of a Redis Cluster: hand in a cluster client/)
  })
})

test('a server that is too old is refused, with what is needed; one that does not tell its version is used', async () => {
  const info = async () => 'redis_version:6.2.14\r\nredis_mode:standalone\r\n'
  await expect(requireServer(info, true)).rejects.toThrow('Redis 6.2.14, but mcp-roam needs Redis 7 or later')
  await requireServer(async () => 'redis_version:7.2.4\r\nserver_name:valkey\r\n', true)
  await requireServer(() => Promise.reject(new Error('NOPERM this user has no permissions')), true)
})
