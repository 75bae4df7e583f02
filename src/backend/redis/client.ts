/**
 * The Redis clients that users have, and all that differs between them: ioredis and node-redis, for a single server, behind
 * sentinels, or for a cluster. The rest of the backend sees a {@link Connection}.
 *
 * A client that the user hands in is only a template: each connection is a `duplicate()` of it with settings of ours, because
 * ours must not send a command again after a reconnect (it may have been executed), must not queue while Redis is away,
 * and one of them must be free to subscribe. The user's own client is neither used nor closed.
 */

import { ifInstalled } from '../optional.js'
import type { Connector } from './connection.js'
import { connectorForIoredis, type IoredisClient, type IoredisCluster, isIoredis } from './ioredis.js'
import {
  connectorForNodeRedis,
  isNodeRedis,
  type NodeRedisClient,
  type NodeRedisCluster,
  type NodeRedisSentinel,
} from './node-redis.js'

/** A client that `redis({ client })` takes. */
export type RedisClient = IoredisClient | IoredisCluster | NodeRedisClient | NodeRedisCluster | NodeRedisSentinel

/** Throws if it is none of the clients that we know. */
export function connectorFor(client: RedisClient): Connector {
  if (isIoredis(client)) return connectorForIoredis(client)
  if (isNodeRedis(client)) return connectorForNodeRedis(client)
  throw new TypeError(
    'redis({ client }): not a client of ioredis or redis (node-redis); for an address write redis({ url })',
  )
}

/** Connects with ioredis, or with node-redis if only that is installed. */
export async function connectorForUrl(url: string): Promise<Connector> {
  const ioredisModule = await ifInstalled('ioredis', () => import('ioredis'))
  // A template that never connects.
  if (ioredisModule) return connectorForIoredis(new ioredisModule.Redis(url, { lazyConnect: true }))
  const nodeRedisModule = await ifInstalled('redis', () => import('redis'))
  if (nodeRedisModule) return connectorForNodeRedis(nodeRedisModule.createClient({ url }))
  throw new Error('redis({ url }) needs a client library: npm install ioredis (or: npm install redis)')
}
