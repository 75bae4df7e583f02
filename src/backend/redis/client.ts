/**
 * The Redis clients that users have, and all that differs between them: ioredis and node-redis, for a single server, behind
 * sentinels, or for a cluster. The rest of the backend sees a {@link Connection}.
 *
 * A client that the user hands in is only a template: each connection is a `duplicate()` of it with settings of ours, because
 * ours must not send a command again after a reconnect (it may have been executed), must not queue while Redis is away,
 * and one of them must be free to subscribe. The user's own client is neither used nor closed.
 */

/** What we need of an ioredis `Redis`. */
export interface IoredisClient {
  readonly status: string
  readonly options: {
    host?: string | undefined
    port?: number | undefined
    keyPrefix?: string | undefined
    password?: string | undefined
  }
  duplicate(override?: object): IoredisClient
  call(command: string, ...args: string[]): Promise<unknown>
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  disconnect(): void
  on(event: string, listener: (...args: unknown[]) => void): unknown
}

/** What we need of an ioredis `Cluster`. */
export interface IoredisCluster {
  readonly isCluster: boolean
  readonly status: string
  readonly options: {
    keyPrefix?: string | undefined
    redisOptions?: { keyPrefix?: string | undefined; password?: string | undefined } | undefined
  }
  nodes(role: 'master'): IoredisClient[]
  duplicate(nodes?: [], override?: object): IoredisCluster
  call(command: string, ...args: string[]): Promise<unknown>
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  disconnect(): void
  on(event: string, listener: (...args: unknown[]) => void): unknown
}

/** What all of node-redis' clients have in common for us. */
interface NodeRedisCommon<Self> {
  readonly isReady: boolean
  connect(): Promise<unknown>
  subscribe(channel: string, listener: (message: string, channel: string) => void): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  destroy(): unknown
  on(event: string, listener: (...args: unknown[]) => void): unknown
  duplicate(overrides?: object): Self
}

/** What we need of a client made by node-redis' `createClient`. */
export interface NodeRedisClient extends NodeRedisCommon<NodeRedisClient> {
  readonly options: { socket?: object; password?: string }
  sendCommand(args: string[], options?: { typeMapping: object }): Promise<unknown>
}

/** What we need of a client made by node-redis' `createCluster`. */
export interface NodeRedisCluster extends NodeRedisCommon<NodeRedisCluster> {
  readonly masters: readonly { address: string }[]
  nodeClient(node: { address: string }): Promise<{ sendCommand: NodeRedisClient['sendCommand'] }>
  sendCommand(
    firstKey: string | undefined,
    isReadonly: boolean | undefined,
    args: string[],
    options?: { typeMapping: object },
  ): Promise<unknown>
}

/** What we need of a client made by node-redis' `createSentinel`. */
export interface NodeRedisSentinel extends NodeRedisCommon<NodeRedisSentinel> {
  getSentinelNode(): unknown
  sendCommand(isReadonly: boolean | undefined, args: string[], options?: { typeMapping: object }): Promise<unknown>
}

/** A client that `redis({ client })` takes. */
export type RedisClient = IoredisClient | IoredisCluster | NodeRedisClient | NodeRedisCluster | NodeRedisSentinel

type Send = (args: string[]) => Promise<unknown>

/** One connection to a Redis server or cluster. It connects at once, and again after a loss, until it is destroyed. */
export interface Connection {
  /** Whether a command has a chance right now. */
  ready(): boolean
  /** Sends a command to the node that has `key`, or to any node, and never twice. */
  send(key: string | undefined, args: string[]): Promise<unknown>
  /** The ways to send a command to each node that has keys of its own. */
  masters(): Promise<Send[]>
  /** In a cluster, messages of a channel go through the same node, so that they keep their order. */
  publish(channel: string, message: string): Promise<unknown>
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  /** Ends it at once; what was sent and not answered rejects. */
  destroy(): void
}

/** What a connection tells. */
export interface Events {
  /** It can be used, for the first time or again after a loss. */
  ready(): void
  /** It was lost, or an attempt to connect failed; the next attempt follows by itself. */
  trouble(error: unknown): void
  message(channel: string, text: string): void
}

/** A way to open connections, and what is to be known of them beforehand. */
export interface Connector {
  /** Which client library and class, for a log line. */
  kind: string
  /** What the client puts before each key by itself; it is switched off in our connections. */
  keyPrefix: string
  /** What must not appear in an error's text. */
  secret: string | undefined
  connect(events: Events): Connection
}

/** Throws if it is none of the clients that we know. */
export function connectorFor(client: RedisClient): Connector {
  if (isIoredis(client)) return 'isCluster' in client && client.isCluster ? ioredisCluster(client) : ioredis(client)
  if (isNodeRedis(client)) {
    if ('nodeClient' in client) return nodeRedisCluster(client)
    if ('getSentinelNode' in client) return nodeRedisSentinel(client)
    return nodeRedis(client)
  }
  throw new TypeError(
    'redis({ client }): not a client of ioredis or redis (node-redis); for an address write redis({ url })',
  )
}

/** Connects with ioredis, or with node-redis if only that is installed. */
export async function connectorForUrl(url: string): Promise<Connector> {
  const ioredisModule = await optional(() => import('ioredis'))
  // A template that never connects.
  if (ioredisModule) return ioredis(new ioredisModule.Redis(url, { lazyConnect: true }))
  const nodeRedisModule = await optional(() => import('redis'))
  if (nodeRedisModule) return nodeRedis(nodeRedisModule.createClient({ url }))
  throw new Error('redis({ url }) needs a client library: npm install ioredis (or: npm install redis)')
}

async function optional<T>(load: () => Promise<T>): Promise<T | undefined> {
  try {
    return await load()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND') return undefined
    throw error
  }
}

function isIoredis(client: RedisClient): client is IoredisClient | IoredisCluster {
  return typeof client === 'object' && client !== null && 'call' in client && 'status' in client
}

function isNodeRedis(client: RedisClient): client is NodeRedisClient | NodeRedisCluster | NodeRedisSentinel {
  return typeof client === 'object' && client !== null && 'sendCommand' in client && 'isReady' in client
}

/** Milliseconds until the next attempt: quickly at first, then every two seconds, not all nodes at the same moment. */
const backoff = (attempt: number): number => Math.min(2 ** Math.min(attempt, 6) * 25, 1_800) + Math.random() * 200

/** Replies as plain strings, whatever the user's client maps them to. */
const PLAIN = { typeMapping: {} }

/** What makes ioredis reject commands instead of queueing or repeating them. */
const NO_SECOND_TRY = {
  lazyConnect: false,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // Ours does it, because the library's leaves a rejection unhandled when the connection breaks again at once.
  autoResubscribe: false,
  keyPrefix: '',
  stringNumbers: false,
}

function ioredis(template: IoredisClient): Connector {
  return {
    kind: 'ioredis',
    keyPrefix: template.options.keyPrefix ?? '',
    secret: template.options.password ?? undefined,
    connect(events) {
      const client = template.duplicate({ ...NO_SECOND_TRY, retryStrategy: backoff })
      tell(client, events)
      const send: Send = ([command = '', ...args]) => client.call(command, ...args)
      return {
        ready: () => client.status === 'ready',
        send: (_key, args) => send(args),
        masters: async () => [send],
        publish: (channel, message) => send(['publish', channel, message]),
        subscribe: (channel) => client.subscribe(channel),
        unsubscribe: (channel) => client.unsubscribe(channel),
        destroy: () => client.disconnect(),
      }
    },
  }
}

function ioredisCluster(template: IoredisCluster): Connector {
  const { redisOptions, keyPrefix } = template.options
  return {
    kind: 'ioredis cluster',
    keyPrefix: keyPrefix ?? redisOptions?.keyPrefix ?? '',
    secret: redisOptions?.password ?? undefined,
    connect(events) {
      const client = template.duplicate([], {
        lazyConnect: false,
        clusterRetryStrategy: backoff,
        keyPrefix: '',
        // A command whose connection broke may have been executed: not again.
        retryDelayOnFailover: 0,
        // Nodes are connected at first use, and what waits for that is rejected with the first failure.
        redisOptions: { ...redisOptions, ...NO_SECOND_TRY, enableOfflineQueue: true },
        scaleReads: 'master',
        slotsRefreshInterval: 5_000,
      })
      tell(client, events)
      const to =
        (node: IoredisClient): Send =>
        ([command = '', ...args]) =>
          node.call(command, ...args)
      return {
        ready: () => client.status === 'ready',
        send: (_key, [command = '', ...args]) => client.call(command, ...args),
        masters: async () => client.nodes('master').map(to),
        async publish(channel, message) {
          // The library would take any node, each time another.
          const node = pick(client.nodes('master'), channel)
          if (!node) throw new Error('no node of the cluster is known')
          return to(node)(['publish', channel, message])
        },
        subscribe: (channel) => client.subscribe(channel),
        unsubscribe: (channel) => client.unsubscribe(channel),
        destroy: () => client.disconnect(),
      }
    },
  }
}

/** The same node for the same text, on all nodes of ours that see the same cluster. */
function pick(nodes: IoredisClient[], text: string): IoredisClient | undefined {
  const address = ({ options }: IoredisClient) => `${options.host}:${options.port}`
  const sorted = nodes.toSorted((a, b) => (address(a) < address(b) ? -1 : 1))
  let sum = 0
  for (let i = 0; i < text.length; i++) sum = (sum * 31 + text.charCodeAt(i)) % 1_000_003
  return sorted[sum % sorted.length]
}

function tell(client: IoredisClient | IoredisCluster, events: Events): void {
  client.on('ready', () => events.ready())
  client.on('error', (error) => events.trouble(error))
  client.on('node error', (error) => events.trouble(error))
  client.on('close', () => events.trouble(new Error('the connection was closed')))
  client.on('message', (channel, text) => events.message(String(channel), String(text)))
}

function nodeRedis(template: NodeRedisClient): Connector {
  return {
    kind: 'node-redis',
    // Commands that we send as words are not prefixed by node-redis.
    keyPrefix: '',
    secret: template.options?.password,
    connect(events) {
      const client = template.duplicate({
        disableOfflineQueue: true,
        socket: { ...template.options?.socket, reconnectStrategy: backoff },
      })
      client.on('error', (error) => events.trouble(error))
      client.on('ready', () => events.ready())
      client.connect().catch(events.trouble)
      const send: Send = (args) => client.sendCommand(args, PLAIN)
      return {
        ready: () => client.isReady,
        send: (_key, args) => send(args),
        masters: async () => [send],
        publish: (channel, message) => send(['publish', channel, message]),
        ...subscriptions(client, events),
        destroy: () => destroy(client),
      }
    },
  }
}

function nodeRedisCluster(template: NodeRedisCluster): Connector {
  return {
    kind: 'node-redis cluster',
    keyPrefix: '',
    secret: undefined,
    connect(events) {
      const client = template.duplicate()
      const stop = dial(client, events)
      return {
        ready: () => client.isReady,
        send: (key, args) => client.sendCommand(key, false, args, PLAIN),
        publish: (channel, message) => client.sendCommand(channel, false, ['publish', channel, message], PLAIN),
        masters: () =>
          Promise.all(
            client.masters.map(async (master): Promise<Send> => {
              const node = await client.nodeClient(master)
              return (args) => node.sendCommand(args, PLAIN)
            }),
          ),
        ...subscriptions(client, events),
        destroy: stop,
      }
    },
  }
}

function nodeRedisSentinel(template: NodeRedisSentinel): Connector {
  return {
    kind: 'node-redis sentinel',
    keyPrefix: '',
    secret: undefined,
    connect(events) {
      const client = template.duplicate()
      const stop = dial(client, events)
      const send: Send = (args) => client.sendCommand(false, args, PLAIN)
      return {
        ready: () => client.isReady,
        send: (_key, args) => send(args),
        masters: async () => [send],
        publish: (channel, message) => send(['publish', channel, message]),
        ...subscriptions(client, events),
        destroy: stop,
      }
    },
  }
}

/** node-redis gives up if a cluster or sentinel cannot be reached at the first attempt. Returns the way to end it. */
function dial(client: NodeRedisCluster | NodeRedisSentinel, events: Events): () => void {
  let ended = false
  let timer: NodeJS.Timeout | undefined
  const attempt = async (number: number): Promise<void> => {
    try {
      await client.connect()
      if (ended) destroy(client)
      else events.ready()
    } catch (error) {
      if (ended) return
      events.trouble(error)
      timer = setTimeout(attempt, backoff(number), number + 1)
    }
  }
  client.on('error', (error) => events.trouble(error))
  void attempt(1)
  return () => {
    ended = true
    clearTimeout(timer)
    destroy(client)
  }
}

function subscriptions(client: NodeRedisCommon<unknown>, events: Events) {
  const listener = (text: string, channel: string) => events.message(channel, text)
  return {
    subscribe: (channel: string) => client.subscribe(channel, listener),
    unsubscribe: (channel: string) => client.unsubscribe(channel),
  }
}

/** Some of the library's classes throw when they are not open, some reject. */
function destroy(client: NodeRedisCommon<unknown>): void {
  Promise.resolve()
    .then(() => client.destroy())
    .catch(() => {})
}
