/** What the rest of the backend sees of a Redis client, whichever library and class it is of. */

export type Send = (args: string[]) => Promise<unknown>

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

/** Milliseconds until the next attempt: quickly at first, then every two seconds, not all nodes at the same moment. */
export const backoff = (attempt: number): number =>
  Math.min(2 ** Math.min(attempt, 6) * 25, 1_800) + Math.random() * 200
