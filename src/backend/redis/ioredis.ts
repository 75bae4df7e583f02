/** Connections made with ioredis. */
import {
  backoff,
  type ConnectionEvents,
  type Connector,
  type Send,
  SUBSCRIBES_BY_SHARD,
  sendingToOne,
} from './connection.js'
import { slotOf } from './slot.js'

/** What is used of an ioredis `Redis`. */
export interface IoredisClient {
  readonly status: string
  readonly options: {
    host?: string | undefined
    port?: number | undefined
    keyPrefix?: string | undefined
    password?: string | undefined
    sentinels?: readonly object[] | null | undefined
  }
  duplicate(override?: object): IoredisClient
  call(command: string, ...args: string[]): Promise<unknown>
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
  /** By slot: the addresses of the servers that have it, that of the master first. */
  readonly slots: readonly (readonly string[])[]
  nodes(role: 'master' | 'all'): IoredisClient[]
  duplicate(nodes?: [], override?: object): IoredisCluster
  call(command: string, ...args: string[]): Promise<unknown>
  pipeline(commands: string[][]): { exec(): Promise<[error: Error | null, reply: unknown][] | null> }
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
  reconnectOnError: null,
  keyPrefix: '',
  stringNumbers: false,
}

/** A connection that is lost is replaced by another one, and does not come back by itself. */
const ONE_ATTEMPT = { ...NO_SECOND_TRY, retryStrategy: null }

function serverConnector(template: IoredisClient): Connector {
  const behindSentinels = (template.options.sentinels?.length ?? 0) > 0
  return {
    kind: 'ioredis',
    keyPrefix: template.options.keyPrefix ?? '',
    secret: template.options.password ?? undefined,
    roundabout: behindSentinels,
    connect(events) {
      // A client that has learnt of other sentinels is kept: those that it was made with may be gone.
      const client = template.duplicate(behindSentinels ? { ...NO_SECOND_TRY, retryStrategy: backoff } : ONE_ATTEMPT)
      const send = sendTo(client)
      reportServer(client, behindSentinels ? { ...events, ended: events.failed } : events)
      return {
        ...sendingToOne(send),
        ...common(client),
        subscribe: (channel) => send(['subscribe', channel]),
        unsubscribe: (channel) => send(['unsubscribe', channel]),
        ping: () => send(['ping']),
      }
    },
  }
}

/** The way to one server of a cluster, for sharded subscriptions. */
function shardConnector(template: IoredisClient): Connector {
  const whole = serverConnector(template)
  return {
    ...whole,
    connect(events) {
      const client = template.duplicate({ ...ONE_ATTEMPT, readOnly: false })
      const send = sendTo(client)
      const pending = new Set<(error: Error) => void>()
      reportServer(client, {
        ...events,
        ended(error) {
          // The library takes the server's word, which nobody asked for, for the answer to a command, and there was none.
          const channel = /Last reply: sunsubscribe,(.*),\d+$/s.exec(String(error))?.[1]
          if (channel === undefined) events.ended(error)
          else events.moved(channel)
        },
      })
      // A refusal that the library reports instead of rejecting. Answers come in order, and so the oldest that is left is meant
      // when all that came before have been told.
      client.on('moved', () =>
        setImmediate(() => {
          const [reject] = pending
          if (!reject) return
          pending.delete(reject)
          reject(new Error('MOVED'))
        }),
      )
      return {
        ...sendingToOne(send),
        ...common(client),
        subscribe: (channel) =>
          new Promise((resolve, reject) => {
            pending.add(reject)
            send(['ssubscribe', channel])
              .then(resolve, reject)
              .finally(() => pending.delete(reject))
          }),
        unsubscribe: (channel) => send(['sunsubscribe', channel]),
        ping: () => send(['ping']),
      }
    },
  }
}

function clusterConnector(template: IoredisCluster): Connector {
  const { redisOptions, keyPrefix } = template.options
  return {
    kind: 'ioredis cluster',
    keyPrefix: keyPrefix ?? redisOptions?.keyPrefix ?? '',
    secret: redisOptions?.password ?? undefined,
    sharded: true,
    roundabout: true,
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
      client.on('ready', () => events.ready())
      client.on('error', (error) => events.failed(error))
      client.on('node error', (error) => events.failed(error))
      client.on('close', () => events.failed(new Error('the connection was closed')))
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
        publish: (channel, message) => sendTo(client)(['spublish', channel, message]),
        async shardOf(channel) {
          const [address] = client.slots[slotOf(channel)] ?? []
          const server = client.nodes('all').find(({ options }) => `${options.host}:${options.port}` === address)
          if (!address || !server) throw new Error('the server that has the channel is not known')
          return { address, connector: shardConnector(server) }
        },
        ...SUBSCRIBES_BY_SHARD,
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
    destroy: () => client.disconnect(),
  }
}

function reportServer(client: IoredisClient, events: ConnectionEvents): void {
  client.on('ready', () => events.ready())
  // What comes first says why; that it was closed follows from that.
  client.on('error', (error) => events.ended(error))
  for (const event of ['close', 'end']) client.on(event, () => events.ended(new Error('the connection was closed')))
  for (const event of ['message', 'smessage']) {
    client.on(event, (channel, text) => events.message(String(channel), String(text)))
  }
}
