/** `waitForReplicas`: what was acknowledged survives a failover to a replica. */
import { Cluster } from 'ioredis'
import { createCluster } from 'redis'
import { describe, expect, test } from 'vitest'
import { redis } from '../../../src/backend/redis.js'
import { describeWith, redisClusterNodes, redisProgram, startRedis, unique } from '../../services/use.js'
import { record } from '../record.js'
import { closing, connection, KINDS, MINUTE } from './fixture.js'

/** A primary and its replica, in step. */
async function pair() {
  const [primary, replica] = await Promise.all([startRedis(), startRedis()])
  const [atPrimary, atReplica] = [connection(primary.url), connection(replica.url)]
  await atPrimary.config('SET', 'repl-diskless-sync-delay', '0')
  const { hostname, port } = new URL(primary.url)
  await atReplica.replicaof(hostname, port)
  await expect
    .poll(() => atReplica.info('replication'), { timeout: 20_000, interval: 20 })
    .toMatch(/master_link_status:up/)
  return { primary, replica, atReplica }
}

describeWith('Redis', await redisProgram(), () => {
  test.each(KINDS)(
    'what is acknowledged is there when the replica is promoted (%s)',
    { timeout: 60_000 },
    async (_, of) => {
      const { primary, replica, atReplica } = await pair()
      const backend = closing(redis({ ...of(primary.url), waitForReplicas: 1 }))
      for (let round = 0; round < 20; round++) {
        expect(await backend.sessions.create(record(`${round}`), MINUTE)).toBe(true)
        expect(await backend.sessions.update({ ...record(`${round}`), revision: 2 }, 1, MINUTE)).toBeDefined()
      }
      expect(await backend.sessions.create(record('0'), MINUTE)).toBe(false)
      expect(await backend.sessions.delete('0')).toBeDefined()
      await primary.kill()
      await atReplica.replicaof('NO', 'ONE')
      const after = closing(redis({ url: replica.url }))
      expect(await after.sessions.load('0')).toBeUndefined()
      expect(await after.sessions.create(record('0'), MINUTE)).toBe(false)
      for (let round = 1; round < 20; round++) expect((await after.sessions.load(`${round}`))?.record.revision).toBe(2)
    },
  )

  test('writes reject while the replica does not answer; reads, events and the bus go on', {
    timeout: 60_000,
  }, async () => {
    const { primary, replica } = await pair()
    const backend = closing(redis({ url: primary.url, waitForReplicas: 1 }))
    await backend.sessions.create(record('a'), MINUTE)
    replica.pause()
    let isRefused = false
    const write = backend.sessions.update({ ...record('a'), revision: 2 }, 1, MINUTE).finally(() => {
      isRefused = true
    })
    const refused = expect(write).rejects.toThrow('Redis: 0 of 1 replicas had a write within 1000 ms')
    expect(await backend.sessions.load('a')).toBeDefined()
    expect(await backend.sessions.touch('a', MINUTE)).toBe(true)
    expect(await backend.events.open('a', 's', { head: '{}' })).toBe(true)
    await backend.bus.beat('node', MINUTE)
    expect(isRefused).toBe(false)
    await refused
    replica.resume()
    expect(await backend.sessions.delete('a')).toBeDefined()
  })
})

const nodes = await redisClusterNodes()

describeWith('a Redis Cluster without replicas', nodes, (nodes) => {
  const clients = {
    ioredis: () => ({ client: new Cluster(nodes, { lazyConnect: true }) }),
    'node-redis': () => ({
      client: createCluster({ rootNodes: nodes.map(({ host, port }) => ({ url: `redis://${host}:${port}` })) }),
    }),
  }
  describe.each(Object.entries(clients))('%s', (_, make) => {
    test('asks the server of the session, which has no replica', async () => {
      const backend = closing(redis({ ...make(), prefix: unique(), waitForReplicas: 1 }))
      for (const id of ['a', 'b', 'c']) {
        await expect(backend.sessions.create(record(id), MINUTE)).rejects.toThrow('0 of 1 replicas')
        expect((await backend.sessions.load(id))?.record).toEqual(record(id))
      }
    })
  })
})
