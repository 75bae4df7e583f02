/** Connections made with ioredis. */
import { backoff, type Connector, type Events, type Send } from './connection.js'

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

export function isIoredis(client: object): client is IoredisClient | IoredisCluster {
  return typeof client === 'object' && client !== null && 'call' in client && 'status' in client
}

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

export function ioredisConnector(client: IoredisClient | IoredisCluster): Connector {
  return 'isCluster' in client && client.isCluster ? ioredisCluster(client) : ioredis(client)
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
