/** What the rest of the backend sees of a Redis client, whichever library and class it is of. */

/** Sends a command, given as words, and resolves with the reply. */
export type Send = (args: string[]) => Promise<unknown>

/** One connection to a Redis server or cluster. It connects at once, and serves until it is destroyed or reports its end. */
export interface Connection {
  /** Whether a command that is sent now has a chance. */
  ready(): boolean
  /** Sends a command once, and never again, to the server that has `key`; without a key to any server. */
  send(key: string | undefined, args: string[]): Promise<unknown>
  /** Sends commands one right after the other over one socket, to the server that has `key`. Rejects if one of them fails. */
  sendInARow(key: string, commands: string[][]): Promise<unknown[]>
  /** One function for each master, which sends commands to that one. */
  masters(): Promise<Send[]>
  /** In a cluster, all messages of a channel go through the server that has the channel's slot, so that they keep their order. */
  publish(channel: string, message: string): Promise<unknown>
  /** Rejects in a cluster: there a connection to the channel's shard subscribes. */
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  /** Asks for a sign of life over the very socket that subscribes. Left out where the library does not let us reach that. */
  ping?(): Promise<unknown>
  /** In a cluster: the server that has the channel's slot, as far as is known here. Rejects if that is not known. */
  shardOf?(channel: string): Promise<Shard>
  /** Ends it at once; commands that were not answered yet reject. */
  destroy(): void
}

/** One server of a cluster, and the way to connect to it for subscriptions. */
export interface Shard {
  address: string
  connector: Connector
}

/** What a connection reports. */
export interface ConnectionEvents {
  /** It can be used, for the first time or again after a loss. */
  ready(): void
  /** It was lost, or an attempt to connect failed; the library makes the next attempt by itself. */
  failed(error: unknown): void
  /** It was lost, or could not be made, and is of no use any more. */
  ended(error: unknown): void
  message(channel: string, text: string): void
  /** The server has ended the subscription to a channel, because the slot went to another server. */
  moved(channel: string): void
}

/** A way to open connections, and what has to be known before there is one. */
export interface Connector {
  /** Which client library and class, for a log line. */
  kind: string
  /** What the user's client puts before each key by itself. Connections made here do not: the names in `keys.ts` have it already. */
  keyPrefix: string
  /** What must not appear in an error's text. */
  secret: string | undefined
  /** A cluster, where a channel belongs to one shard. */
  sharded?: boolean
  /** Asks several servers before it is connected, which takes its time when some of them are away. */
  roundabout?: boolean
  connect(events: ConnectionEvents): Connection
}

/** The commands of a connection where one server has all keys. */
export function sendingToOne(send: Send): Pick<Connection, 'send' | 'sendInARow' | 'masters' | 'publish'> {
  return {
    send: (_key, args) => send(args),
    sendInARow: (_key, commands) => Promise.all(commands.map(send)),
    masters: async () => [send],
    publish: (channel, message) => send(['publish', channel, message]),
  }
}

const refuse = () => Promise.reject(new Error('in a cluster, a connection to the shard subscribes'))

/** What a connection to a whole cluster leaves to those to its shards. */
export const SUBSCRIBES_BY_SHARD: Pick<Connection, 'subscribe' | 'unsubscribe'> = {
  subscribe: refuse,
  unsubscribe: refuse,
}

/**
 * Milliseconds until the next attempt to connect: 50 at first, then twice as long each time, up to 1,600. Up to 200 are added at
 * random, so that not all nodes come at once.
 */
export const backoff = (attempt: number): number =>
  Math.min(2 ** Math.min(attempt, 6) * 25, 1_800) + Math.random() * 200
