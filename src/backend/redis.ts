/** Sessions, events and messages in Redis 7 or later, or Valkey: for clusters. */
import {
  type Backend,
  DEFAULT_RETENTION,
  type EventLog,
  type MessageBus,
  type Retention,
  type SessionStore,
} from './backend.js'
import { messageBus } from './redis/bus.js'
import { connectorFor, connectorForUrl, type RedisClient } from './redis/client.js'
import type { Connector } from './redis/connection.js'
import { eventLog } from './redis/events.js'
import { keysFor } from './redis/keys.js'
import { Link } from './redis/link.js'
import { requireServer } from './redis/server.js'
import { sessionStore } from './redis/sessions.js'

export type { RedisClient } from './redis/client.js'
export type { IoredisClient, IoredisCluster } from './redis/ioredis.js'
export { RedisUnavailable } from './redis/link.js'
export type { NodeRedisClient, NodeRedisCluster, NodeRedisSentinel } from './redis/node-redis.js'

/** Where Redis is: an address, or a client that you made. */
export type RedisOptions = RedisSettings & ({ url: string; client?: never } | { client: RedisClient; url?: never })

export interface RedisSettings {
  /**
   * What the names of all keys and channels begin with, so that several applications share a server; without braces. A
   * `keyPrefix` of an ioredis client is put before it. Default `mcp-roam`.
   */
  prefix?: string
  /** How much of each stream is kept. Default: an hour after its last event, 10,000 events, 16 Mi code units. */
  retention?: Retention
}

export interface RedisBackend extends Backend {
  readonly name: string
  readonly sessions: Required<SessionStore>
  readonly events: EventLog
  readonly bus: MessageBus
  ping(): Promise<void>
  close(): Promise<void>
}

/**
 * A backend on Redis or Valkey: one server, sentinels, or a cluster.
 *
 * With `url` it connects with `ioredis`, or with `redis` (node-redis) if only that is installed. A `client` of either
 * library is a template: the backend opens connections of its own with the client's settings (`duplicate()`), one for
 * commands and one for subscriptions; the client itself is neither used nor closed, and need not be connected. Nothing is
 * connected before it is used. While Redis is away methods reject within a few seconds, mostly at once, and what was lost is
 * not sent again; afterwards everything, subscriptions too, goes on by itself.
 *
 * The server must not evict keys before they expire (`maxmemory-policy noeviction`), and a session is as durable as the
 * server's persistence: with `appendonly yes` it survives a restart of Redis.
 *
 * @throws TypeError if the address, the client or the prefix is of no use.
 *
 * @example
 * ```ts
 * import { redis } from 'mcp-roam/redis'
 * const backend = redis({ url: 'redis://127.0.0.1:6379' })
 * ```
 *
 * @example A cluster
 * ```ts
 * import { Cluster } from 'ioredis'
 * const backend = redis({ client: new Cluster([{ host: '10.0.0.1', port: 6379 }]) })
 * ```
 */
export function redis(options: RedisOptions): RedisBackend {
  const { url, client, prefix = 'mcp-roam' } = options
  const address = url === undefined ? undefined : parseUrl(url)
  const given = client === undefined ? undefined : connectorFor(client)
  if ((address === undefined) === (given === undefined)) {
    throw new TypeError('redis(): either { url } or { client } is needed')
  }

  let loaded: Promise<Connector> | undefined
  const connector = async () => {
    if (given) return given
    // A library may be installed while we run; only success is remembered.
    loaded ??= connectorForUrl(String(url)).catch((error: unknown) => {
      loaded = undefined
      throw error
    })
    return loaded
  }

  const keys = keysFor(`${given?.keyPrefix ?? ''}${prefix}`)
  const link = new Link(connector, { check: (send) => requireServer(send, address !== undefined) })
  const bus = messageBus(link, keys, connector)
  return {
    name: address ? `redis:${address.host}${address.pathname}` : `redis (${given?.kind})`,
    sessions: sessionStore(link, keys),
    events: eventLog(link, keys, { ...DEFAULT_RETENTION, ...options.retention }),
    bus,
    async ping() {
      await link.send(undefined, ['ping'])
    },
    async close() {
      bus.close()
      link.close()
    },
  }
}

const WRITE_INSTEAD =
  'write redis://[user:password@]host[:port][/database], or rediss://… for TLS; for sentinels, a cluster or a socket file ' +
  'hand in a client: redis({ client })'

/** Throws if it is no address; what was written stays out of the message, for it may hold a password. */
function parseUrl(url: string): URL {
  let parsed: URL
  try {
    parsed = new URL(url)
  } catch {
    throw new TypeError(`redis({ url }): not a URL; ${WRITE_INSTEAD}`)
  }
  if (parsed.protocol !== 'redis:' && parsed.protocol !== 'rediss:') {
    // What stands before the colon may be part of an address without a protocol, such as a host or a user.
    throw new TypeError(`redis({ url }): the protocol is neither redis: nor rediss:; ${WRITE_INSTEAD}`)
  }
  if (!parsed.hostname) throw new TypeError(`redis({ url }): there is no host; ${WRITE_INSTEAD}`)
  if (!/^\/?\d*$/.test(parsed.pathname)) {
    throw new TypeError(`redis({ url }): the database is not a number; ${WRITE_INSTEAD}`)
  }
  return parsed
}
