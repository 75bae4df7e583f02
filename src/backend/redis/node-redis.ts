/** Connections made with node-redis. */
import { backoff, type Connector, type Events, type Send } from './connection.js'

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

export function isNodeRedis(client: object): client is NodeRedisClient | NodeRedisCluster | NodeRedisSentinel {
  return typeof client === 'object' && client !== null && 'sendCommand' in client && 'isReady' in client
}

/** Replies as plain strings, whatever the user's client maps them to. */
const PLAIN = { typeMapping: {} }

export function nodeRedisConnector(client: NodeRedisClient | NodeRedisCluster | NodeRedisSentinel): Connector {
  if ('nodeClient' in client) return nodeRedisCluster(client)
  if ('getSentinelNode' in client) return nodeRedisSentinel(client)
  return nodeRedis(client)
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
