/**
 * Which Redis client it is: of ioredis or of node-redis, for a single server, behind sentinels, or for a cluster. The rest of
 * the backend sees a `Connection`.
 *
 * A client that the user hands in is only a template: each connection is a `duplicate()` of it with other settings. It must not
 * send a command again after a reconnect (it may have been executed), must not queue commands while Redis is away, and one
 * connection must be free to subscribe. The user's own client is neither used nor closed.
 */
import { ifInstalled } from '../optional.js'
import type { Connector } from './connection.js'
import { type IoredisClient, type IoredisCluster, ioredisConnector, isIoredis } from './ioredis.js'
import {
  isNodeRedis,
  type NodeRedisClient,
  type NodeRedisCluster,
  type NodeRedisSentinel,
  nodeRedisConnector,
} from './node-redis.js'

/** A client that `redis({ client })` takes. */
export type RedisClient = IoredisClient | IoredisCluster | NodeRedisClient | NodeRedisCluster | NodeRedisSentinel

/**
 * The way to connect that a client stands for.
 *
 * @throws TypeError if it is none of the clients that are known here.
 */
export function connectorForClient(client: RedisClient): Connector {
  if (isIoredis(client)) return ioredisConnector(client)
  if (isNodeRedis(client)) return nodeRedisConnector(client)
  throw new TypeError(
    'redis: `client` is not a client of ioredis or redis (node-redis); for an address write redis({ url })',
  )
}

/** The way to connect to an address: with ioredis, or with node-redis if only that is installed. */
export function connectorForUrl(url: string): () => Promise<Connector> {
  let loading: Promise<Connector> | undefined
  return () => {
    loading ??= load(url).catch((error: unknown) => {
      // The next call tries again: a library may be installed meanwhile.
      loading = undefined
      throw error
    })
    return loading
  }
}

async function load(url: string): Promise<Connector> {
  const ioredis = await ifInstalled('ioredis', () => import('ioredis'))
  // Both clients are only templates and never connect.
  if (ioredis) return ioredisConnector(new ioredis.Redis(url, { lazyConnect: true }))
  const nodeRedis = await ifInstalled('redis', () => import('redis'))
  if (nodeRedis) return nodeRedisConnector(nodeRedis.createClient({ url }))
  throw new Error('redis({ url }) needs a client library: npm install ioredis (or: npm install redis)')
}
