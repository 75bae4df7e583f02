/** What the rest of the backend sees of a Redis client, whichever library and class it is of. */

/** Sends a command, given as words, and resolves with the reply. */
export type Send = (args: string[]) => Promise<unknown>

/** One connection to a Redis server or cluster. It connects at once, and again after a loss, until it is destroyed. */
export interface Connection {
  /** Whether a command that is sent now has a chance. */
  ready(): boolean
  /** Sends a command once, and never again, to the server that has `key`; without a key to any server. */
  send(key: string | undefined, args: string[]): Promise<unknown>
  /** Sends commands one right after the other over one socket, to the server that has `key`. Rejects if one of them fails. */
  sendInARow(key: string, commands: string[][]): Promise<unknown[]>
  /** One function for each master, which sends commands to that one. */
  masters(): Promise<Send[]>
  /** In a cluster, all messages of a channel go through the same server, so that they keep their order. */
  publish(channel: string, message: string): Promise<unknown>
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  /** Ends it at once; commands that were not answered yet reject. */
  destroy(): void
}

/** What a connection reports. */
export interface ConnectionEvents {
  /** It can be used, for the first time or again after a loss. */
  ready(): void
  /** It was lost, or an attempt to connect failed; the next attempt follows by itself. */
  failed(error: unknown): void
  message(channel: string, text: string): void
}

/** A way to open connections, and what has to be known before there is one. */
export interface Connector {
  /** Which client library and class, for a log line. */
  kind: string
  /** What the user's client puts before each key by itself. Connections made here do not: the names in `keys.ts` have it already. */
  keyPrefix: string
  /** Whether one server has all keys, so that a script may have any of them. */
  oneServer: boolean
  /** What must not appear in an error's text. */
  secret: string | undefined
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

/**
 * Milliseconds until the next attempt to connect: 50 at first, then twice as long each time, up to 1,600. Up to 200 are added at
 * random, so that not all nodes come at once.
 */
export const backoff = (attempt: number): number =>
  Math.min(2 ** Math.min(attempt, 6) * 25, 1_800) + Math.random() * 200
