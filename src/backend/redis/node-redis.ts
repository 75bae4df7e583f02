/** Connections made with node-redis. */
import {
  backoff,
  type Connection,
  type ConnectionEvents,
  type Connector,
  type Send,
  SUBSCRIBES_BY_SHARD,
  sendingToOne,
} from './connection.js'
import { slotOf } from './slot.js'

type Listener = (message: string, channel: string) => void

/** What is used of each of node-redis' clients. */
interface NodeRedisCommon<Self> {
  readonly isReady: boolean
  connect(): Promise<unknown>
  destroy(): unknown
  on(event: string, listener: (...args: unknown[]) => void): unknown
  duplicate(overrides?: object): Self
}

/** What is used of a client made by node-redis' `createClient`. */
export interface NodeRedisClient extends NodeRedisCommon<NodeRedisClient> {
  readonly options: { socket?: object; password?: string }
  sendCommand(args: string[], options?: { typeMapping: object }): Promise<unknown>
  subscribe(channel: string, listener: Listener): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  sSubscribe(channel: string, listener: Listener): Promise<unknown>
  sUnsubscribe(channel: string): Promise<unknown>
}

/** What is used of a client made by node-redis' `createCluster`. */
export interface NodeRedisCluster extends NodeRedisCommon<NodeRedisCluster> {
  readonly masters: readonly { address: string }[]
  readonly slots: readonly { master: { address: string } }[]
  nodeClient(node: { address: string }): Promise<NodeRedisClient>
  sendCommand(
    firstKey: string | undefined,
    isReadonly: boolean | undefined,
    args: string[],
    options?: { typeMapping: object },
  ): Promise<unknown>
}

/** What is used of a client made by node-redis' `createSentinel`. */
export interface NodeRedisSentinel extends NodeRedisCommon<NodeRedisSentinel> {
  getSentinelNode(): unknown
  subscribe(channel: string, listener: Listener): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  sendCommand(isReadonly: boolean | undefined, args: string[], options?: { typeMapping: object }): Promise<unknown>
  use<T>(work: (master: Pick<NodeRedisSentinel, 'sendCommand'>) => Promise<T>): Promise<T>
}

export function isNodeRedis(client: object): client is NodeRedisClient | NodeRedisCluster | NodeRedisSentinel {
  return typeof client === 'object' && client !== null && 'sendCommand' in client && 'isReady' in client
}

export function nodeRedisConnector(client: NodeRedisClient | NodeRedisCluster | NodeRedisSentinel): Connector {
  if ('nodeClient' in client) return clusterConnector(client)
  if ('getSentinelNode' in client) return sentinelConnector(client)
  return serverConnector(client)
}

/** Has replies come as plain strings, whatever the user's client makes of them. */
const PLAIN = { typeMapping: {} }

/** node-redis puts no prefix before commands that are given as words. */
const keyPrefix = ''

function serverConnector(template: NodeRedisClient): Connector {
  return {
    kind: 'node-redis',
    keyPrefix,
    secret: template.options?.password,
    connect(events) {
      const client = connectOnce(template, events)
      return { ...toServer(client), ...subscribing(client, events) }
    },
  }
}

/** The way to one server of a cluster, for sharded subscriptions. */
function shardConnector(template: NodeRedisClient): Connector {
  return {
    ...serverConnector(template),
    connect(events) {
      const client = connectOnce(template, events)
      client.on('sharded-channel-moved', (channel) => events.moved(String(channel)))
      const listener: Listener = (text, channel) => events.message(channel, text)
      return {
        ...toServer(client),
        subscribe: (channel) => client.sSubscribe(channel, listener),
        unsubscribe: (channel) => client.sUnsubscribe(channel),
      }
    },
  }
}

/** A connection that is lost is replaced by another one, and does not come back by itself. */
function connectOnce(template: NodeRedisClient, events: ConnectionEvents): NodeRedisClient {
  const client = template.duplicate({
    disableOfflineQueue: true,
    socket: { ...template.options?.socket, reconnectStrategy: false },
  })
  client.on('error', (error) => events.ended(error))
  client.on('ready', () => events.ready())
  client.connect().catch(events.ended)
  return client
}

/** All but the subscriptions of a connection to one server. */
function toServer(client: NodeRedisClient): Omit<Connection, 'subscribe' | 'unsubscribe'> {
  const send: Send = (args) => client.sendCommand(args, PLAIN)
  return {
    ...sendingToOne(send),
    ready: () => client.isReady,
    ping: () => send(['PING']),
    destroy: () => destroy(client),
  }
}

function clusterConnector(template: NodeRedisCluster): Connector {
  return {
    kind: 'node-redis cluster',
    keyPrefix,
    secret: undefined,
    sharded: true,
    roundabout: true,
    connect(events) {
      const client = template.duplicate()
      const destroy = connectUntilItWorks(client, events)
      return {
        ready: () => client.isReady,
        send: (key, args) => client.sendCommand(key, false, args, PLAIN),
        sendInARow: (key, commands) => Promise.all(commands.map((args) => client.sendCommand(key, false, args, PLAIN))),
        publish: (channel, message) => client.sendCommand(channel, false, ['spublish', channel, message], PLAIN),
        masters: () =>
          Promise.all(
            client.masters.map(async (master): Promise<Send> => {
              const server = await client.nodeClient(master)
              return (args) => server.sendCommand(args, PLAIN)
            }),
          ),
        async shardOf(channel) {
          const master = client.slots[slotOf(channel)]?.master
          if (!master) throw new Error('the server that has the channel is not known')
          return { address: master.address, connector: shardConnector(await client.nodeClient(master)) }
        },
        ...SUBSCRIBES_BY_SHARD,
        destroy,
      }
    },
  }
}

function sentinelConnector(template: NodeRedisSentinel): Connector {
  return {
    kind: 'node-redis sentinel',
    keyPrefix,
    secret: undefined,
    roundabout: true,
    connect(events) {
      const client = template.duplicate()
      const destroy = connectUntilItWorks(client, events)
      return {
        ready: () => client.isReady,
        ...sendingToOne((args) => client.sendCommand(false, args, PLAIN)),
        // The library may have several connections to the master.
        sendInARow: (_key, commands) =>
          client.use((master) => Promise.all(commands.map((args) => master.sendCommand(false, args, PLAIN)))),
        ...subscribing(client, events),
        destroy,
      }
    },
  }
}

/** What is the same for one server and for sentinels. */
function subscribing(client: NodeRedisClient | NodeRedisSentinel, events: ConnectionEvents) {
  const listener: Listener = (text, channel) => events.message(channel, text)
  return {
    subscribe: (channel: string) => client.subscribe(channel, listener),
    unsubscribe: (channel: string) => client.unsubscribe(channel),
  }
}

/**
 * Connects to a cluster or sentinels, again and again: node-redis by itself gives up if the first attempt fails. Returns a
 * function that ends the attempts and the connection.
 */
function connectUntilItWorks(client: NodeRedisCluster | NodeRedisSentinel, events: ConnectionEvents): () => void {
  let ended = false
  let timer: NodeJS.Timeout | undefined
  const attempt = async (number: number): Promise<void> => {
    try {
      await client.connect()
      if (ended) destroy(client)
      else events.ready()
    } catch (error) {
      if (ended) return
      events.failed(error)
      timer = setTimeout(attempt, backoff(number), number + 1)
    }
  }
  client.on('error', (error) => events.failed(error))
  void attempt(1)
  return () => {
    ended = true
    clearTimeout(timer)
    destroy(client)
  }
}

/** Some of the library's classes throw when they are not open, some reject; neither matters here. */
function destroy(client: NodeRedisCommon<unknown>): void {
  Promise.resolve()
    .then(() => client.destroy())
    .catch(() => {})
}
