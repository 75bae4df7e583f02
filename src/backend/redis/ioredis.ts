/** Connections made with ioredis. */
import { backoff, type ConnectionEvents, type Connector, type Send, sendingToOne } from './connection.js'

/** What is used of an ioredis `Redis`. */
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

/** What is used of an ioredis `Cluster`. */
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
  pipeline(commands: string[][]): { exec(): Promise<[error: Error | null, reply: unknown][] | null> }
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  disconnect(): void
  on(event: string, listener: (...args: unknown[]) => void): unknown
}

export function isIoredis(client: object): client is IoredisClient | IoredisCluster {
  return typeof client === 'object' && client !== null && 'call' in client && 'status' in client
}

export function ioredisConnector(client: IoredisClient | IoredisCluster): Connector {
  return 'isCluster' in client && client.isCluster ? clusterConnector(client) : serverConnector(client)
}

/** Makes ioredis reject commands instead of queueing them or sending them again. */
const NO_SECOND_TRY = {
  lazyConnect: false,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // The subscriptions here do it: the library leaves a rejection unhandled when the connection breaks again at once.
  autoResubscribe: false,
  keyPrefix: '',
  stringNumbers: false,
}

function serverConnector(template: IoredisClient): Connector {
  return {
    kind: 'ioredis',
    oneServer: true,
    keyPrefix: template.options.keyPrefix ?? '',
    secret: template.options.password ?? undefined,
    connect(events) {
      const client = template.duplicate({ ...NO_SECOND_TRY, retryStrategy: backoff })
      report(client, events)
      return { ...sendingToOne(sendTo(client)), ...common(client) }
    },
  }
}

function clusterConnector(template: IoredisCluster): Connector {
  const { redisOptions, keyPrefix } = template.options
  return {
    kind: 'ioredis cluster',
    oneServer: false,
    keyPrefix: keyPrefix ?? redisOptions?.keyPrefix ?? '',
    secret: redisOptions?.password ?? undefined,
    connect(events) {
      const client = template.duplicate([], {
        lazyConnect: false,
        clusterRetryStrategy: backoff,
        keyPrefix: '',
        // A command whose connection broke may have been executed, so it is not sent again.
        retryDelayOnFailover: 0,
        // The library connects to each server at its first use; commands wait for that, and reject if it fails.
        redisOptions: { ...redisOptions, ...NO_SECOND_TRY, enableOfflineQueue: true },
        scaleReads: 'master',
        slotsRefreshInterval: 5_000,
      })
      report(client, events)
      return {
        send: (_key, args) => sendTo(client)(args),
        async sendInARow(_key, commands) {
          // The library takes the server by the keys that are in the commands, and the same one for all of them.
          const outcomes = await client.pipeline(commands).exec()
          return (outcomes ?? []).map(([error, reply]) => {
            if (error) throw error
            return reply
          })
        },
        masters: async () => client.nodes('master').map(sendTo),
        async publish(channel, message) {
          // The library would take another server each time.
          const server = pick(client.nodes('master'), channel)
          if (!server) throw new Error('no node of the cluster is known')
          return sendTo(server)(['publish', channel, message])
        },
        ...common(client),
      }
    },
  }
}

function sendTo(client: IoredisClient | IoredisCluster): Send {
  return ([command = '', ...args]) => client.call(command, ...args)
}

/** What is the same for one server and for a cluster. */
function common(client: IoredisClient | IoredisCluster) {
  return {
    ready: () => client.status === 'ready',
    subscribe: (channel: string) => client.subscribe(channel),
    unsubscribe: (channel: string) => client.unsubscribe(channel),
    destroy: () => client.disconnect(),
  }
}

/** One of the servers: for the same text the same one, on every node of mcp-roam that sees the same cluster. */
function pick(servers: IoredisClient[], text: string): IoredisClient | undefined {
  const address = ({ options }: IoredisClient) => `${options.host}:${options.port}`
  const sorted = servers.toSorted((a, b) => (address(a) < address(b) ? -1 : 1))
  let sum = 0
  for (let i = 0; i < text.length; i++) sum = (sum * 31 + text.charCodeAt(i)) % 1_000_003
  return sorted[sum % sorted.length]
}

function report(client: IoredisClient | IoredisCluster, events: ConnectionEvents): void {
  client.on('ready', () => events.ready())
  client.on('error', (error) => events.failed(error))
  client.on('node error', (error) => events.failed(error))
  client.on('close', () => events.failed(new Error('the connection was closed')))
  client.on('message', (channel, text) => events.message(String(channel), String(text)))
}
