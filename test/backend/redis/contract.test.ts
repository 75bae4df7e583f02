import { Cluster, Redis } from 'ioredis'
import { createClient, createCluster } from 'redis'
import { type RedisOptions, redis } from '../../../src/backend/redis.js'
import { describeWith, redisClusterNodes, redisUrl, unique } from '../../services/use.js'
import { certify, pairs } from '../contract.js'

function contract(name: string, options: RedisOptions): void {
  const prefix = unique()
  certify(
    name,
    pairs((needs) => redis({ ...options, prefix, ...needs })),
  )
}

describeWith('Redis', await redisUrl(), (url) => {
  contract('by address', { url })
  const ioredis = new Redis(url, { lazyConnect: true })
  contract('ioredis', { client: ioredis })
  const nodeRedis = createClient({ url })
  contract('node-redis', { client: nodeRedis })
})

describeWith('Redis Cluster', await redisClusterNodes(), (nodes) => {
  const ioredis = new Cluster(nodes, { lazyConnect: true })
  contract('ioredis', { client: ioredis })
  const nodeRedis = createCluster({ rootNodes: nodes.map(({ host, port }) => ({ socket: { host, port } })) })
  contract('node-redis', { client: nodeRedis })
})
