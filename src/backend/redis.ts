/** Sessions, events and messages in Redis 7 or later, or Valkey: for clusters. */
import type { CompleteBackend, Retention } from './backend.js'
import { checkNames, checkRetention } from './options.js'
import { messageBus } from './redis/bus.js'
import { connectorForClient, connectorForUrl, type RedisClient } from './redis/client.js'
import type { Connector, Send } from './redis/connection.js'
import { eventLog } from './redis/events.js'
import { keysFor } from './redis/keys.js'
import { Link } from './redis/link.js'
import { waitingForReplicas } from './redis/replicas.js'
import { requireServer } from './redis/server.js'
import { sessionStore } from './redis/sessions.js'

export type { RedisClient } from './redis/client.js'
export type { IoredisClient, IoredisCluster } from './redis/ioredis.js'
export { RedisUnavailable } from './redis/link.js'
export type { NodeRedisClient, NodeRedisCluster, NodeRedisSentinel } from './redis/node-redis.js'

/** Where Redis is, as an address or as a client that you made; and how it is used. */
export type RedisOptions = RedisSettings &
  (
    | {
        /** `redis://user:password@host:6379/database`; `rediss:` for TLS. One server. */
        url: string
        client?: never
      }
    | {
        /** A client of `ioredis` or `redis` (node-redis), for one server, sentinels or a cluster. It is neither used nor closed. */
        client: RedisClient
        url?: never
      }
  )

export interface RedisSettings {
  /**
   * What the names of all keys and channels begin with, so that several applications share a server; without braces. A
   * `keyPrefix` of an ioredis client is put before it. Default `mcp-roam`.
   */
  prefix?: string
  /**
   * How much of streams is kept. Default: 1 hour (of one that has ended: 5 minutes), 10,000 events and 16 Mi UTF-16 code units of
   * each stream, 64 Mi of all streams of a session.
   */
  retention?: Retention
  /**
   * How many replicas must have it before a session is given out, a change of its record counts, or a DELETE is answered
   * (`WAIT`). When so many do not have it within a second, the client is answered 503. Default 0: none is waited for.
   */
  waitForReplicas?: number
}

/** What {@link redis} returns. */
export interface RedisBackend extends CompleteBackend {}

/**
 * A backend on Redis or Valkey: one server, sentinels, or a cluster.
 *
 * With `url` it connects with `ioredis`, or with `redis` (node-redis) if only that is installed. A `client` of either
 * library is a template: the backend opens connections of its own with the client's settings (`duplicate()`), one for
 * commands and one for subscriptions; the client itself is neither used nor closed, and need not be connected. Nothing is
 * connected before it is used. While Redis is away methods reject within a few seconds, mostly at once; a command that was
 * lost is not sent again. Afterwards everything goes on by itself, subscriptions too.
 *
 * The server must not evict keys before they expire (`maxmemory-policy noeviction`), and a session is as durable as the
 * server's persistence: with `appendonly yes` it survives a restart of Redis. A failover to a replica with lag may lose the last
 * writes; `waitForReplicas` makes that rare.
 *
 * @throws TypeError if an option cannot be right; the message says what to write, and never repeats the address, which may
 * hold a password.
 *
 * @example
 * ```ts
 * import { redis } from 'mcp-roam/redis'
 *
 * const backend = redis({ url: 'redis://127.0.0.1:6379' })
 * ```
 *
 * @example A cluster
 * ```ts
 * import { Cluster } from 'ioredis'
 *
 * const backend = redis({ client: new Cluster([{ host: '10.0.0.1', port: 6379 }]) })
 * ```
 */
export function redis(options: RedisOptions): RedisBackend {
  checkNames('redis', options, ['url', 'client', 'prefix', 'retention', 'waitForReplicas'])
  const retention = checkRetention('redis', options.retention)
  const { waitForReplicas = 0 } = options
  if (!Number.isInteger(waitForReplicas) || waitForReplicas < 0) {
    throw new TypeError('redis: `waitForReplicas` must be a whole number: of replicas, or 0')
  }
  const { connector, name, keyPrefix, sharded } = connectTo(options)
  const keys = keysFor(options.prefix ?? 'mcp-roam', keyPrefix)

  const check = (send: Send) => requireServer(send, options.url !== undefined)
  // A server that is no longer the primary goes on answering reads, and has no messages: nothing may stay connected to it.
  const demoted = (reason: string) => {
    for (const each of [link, patientLink, bus]) each?.renew(reason)
  }
  const link = new Link(connector, { check, demoted })
  const patientLink = waitForReplicas > 0 ? new Link(connector, { check, demoted }) : undefined
  const writes = patientLink && waitingForReplicas(patientLink, waitForReplicas)
  const bus = messageBus(link, keys, connector, { sharded })

  return {
    name,
    sessions: sessionStore(link, keys, writes),
    events: eventLog(link, keys, retention),
    bus,
    async ping() {
      // With replicas to wait for, the server must have them.
      await (writes ?? link).send(undefined, ['ping'])
    },
    async close() {
      bus.close()
      link.close()
      patientLink?.close()
    },
  }
}

/** The way to connect that the options ask for, the backend's name, and what a client puts before each key by itself. */
function connectTo({ url, client }: RedisOptions): {
  connector: () => Promise<Connector>
  name: string
  keyPrefix: string
  sharded: boolean
} {
  if ((url === undefined) === (client === undefined)) {
    throw new TypeError("redis: give either `url` ('redis://user:password@host:6379') or `client`")
  }
  if (client !== undefined) {
    const connector = connectorForClient(client)
    const { kind, keyPrefix, sharded = false } = connector
    return { connector: async () => connector, name: `redis (${kind})`, keyPrefix, sharded }
  }
  const { host, pathname } = checkUrl(url)
  return { connector: connectorForUrl(url), name: `redis:${host}${pathname}`, keyPrefix: '', sharded: false }
}

function checkUrl(url: string): URL {
  const wrong = (what: string) =>
    new TypeError(
      `redis: \`url\`: ${what}; write redis://[user:password@]host[:port][/database], or rediss://… for TLS; for sentinels, a cluster or a socket file hand in a client: redis({ client })`,
    )
  if (!URL.canParse(url)) throw wrong('not a URL')
  const address = new URL(url)
  if (address.protocol !== 'redis:' && address.protocol !== 'rediss:') {
    // The message does not repeat it: what stands before the colon may be the host or the user of an address without protocol.
    throw wrong('the protocol is neither redis: nor rediss:')
  }
  if (!address.hostname) throw wrong('there is no host')
  if (!/^\/?\d*$/.test(address.pathname)) throw wrong('the database is not a number')
  return address
}
