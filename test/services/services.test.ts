import { Redis } from 'ioredis'
import pg from 'pg'
import { describe, expect, test } from 'vitest'
import {
  describeWith,
  postgresProgram,
  postgresUrl,
  redisClusterNodes,
  redisProgram,
  redisUrl,
  startPostgres,
  startRedis,
} from './use.js'

const [redis, cluster, postgres] = await Promise.all([redisUrl(), redisClusterNodes(), postgresUrl()])

describeWith('shared services: Redis', redis, (url) => {
  test('answers', async () => {
    const client = new Redis(url)
    expect(await client.ping()).toBe('PONG')
    client.disconnect()
  })
})

describeWith('shared services: Redis Cluster', cluster, (nodes) => {
  test('serves every slot', async () => {
    const client = new Redis.Cluster(nodes)
    expect(await client.cluster('INFO')).toContain('cluster_slots_ok:16384')
    client.disconnect()
  })
})

describeWith('shared services: PostgreSQL', postgres, (url) => {
  test('answers', async () => {
    expect(await ask(url, 'select 1 as v')).toEqual([{ v: 1 }])
  })
})

describeWith('a private Redis', await redisProgram(), () => {
  test('keeps its data over kill and restart, and answers again after a pause', { timeout: 30_000 }, async () => {
    const server = await startRedis()
    const client = new Redis(server.url, { retryStrategy: () => 50 })
    client.on('error', () => {})
    await client.set('k', 'v')
    await server.kill()
    await server.restart()
    expect(await client.get('k')).toBe('v')
    server.pause()
    const answer = client.get('k')
    server.resume()
    expect(await answer).toBe('v')
    client.disconnect()
  })
})

describeWith('a private PostgreSQL', await postgresProgram(), () => {
  test('keeps its data over kill and restart, and answers again after a pause', { timeout: 60_000 }, async () => {
    const server = await startPostgres()
    await ask(server.url, 'create table t (v int)')
    await ask(server.url, 'insert into t values (7)')
    await server.kill()
    await server.restart()
    const client = new pg.Client({ connectionString: server.url })
    client.on('error', () => {})
    await client.connect()
    server.pause()
    const answer = client.query('select v from t')
    server.resume()
    expect((await answer).rows).toEqual([{ v: 7 }])
    await client.end()
  })
})

describe('describeWith', () => {
  describeWith('without the service', undefined, () => {
    test('does not run', () => expect.unreachable())
  })
})

async function ask(connectionString: string, query: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query(query)).rows
  } finally {
    await client.end()
  }
}
