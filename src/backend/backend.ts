/**
 * What mcp-roam asks of the place where sessions live: three contracts behind one {@link Backend}.
 *
 * Only the {@link SessionStore} is required. Without an {@link EventLog} and a {@link MessageBus} of their own, streams and
 * routing use the node's memory: a session is still restored on any node, its streams stay on theirs.
 *
 * A method that cannot do its work right now (connection lost, disk full) rejects; the caller answers 503 and tries again
 * later. `false` and `undefined` are answers about the data, never about trouble. No method needs a time limit of its own:
 * the caller sets one. Durations are milliseconds.
 */
import type { JSONRPCRequest } from '../wire/jsonrpc.js'

/** Where sessions, their events and the messages between nodes live. */
export interface Backend {
  /** What to call it in a log line, e.g. `sqlite:/var/lib/mcp/roam.db`. Never holds a credential. */
  readonly name?: string
  readonly sessions: SessionStore
  /** Default: the node's memory. */
  readonly events?: EventLog
  /** Default: the process's memory. */
  readonly bus?: MessageBus
  /** Rejects when the backend cannot be reached. */
  ping?(): Promise<void>
  /** Releases connections and files that the backend opened itself; a client that the user handed in stays open. */
  close?(): Promise<void>
}

/** The client messages that define a session's protocol state; a restore feeds them to a new server instance. */
export interface Journal {
  /** Parameters of the client's `initialize`. */
  initialize: NonNullable<JSONRPCRequest['params']>
  /** Whether `notifications/initialized` was received. */
  initialized: boolean
  /** Parameters of the last `logging/setLevel`. */
  setLevel?: NonNullable<JSONRPCRequest['params']>
  /** URIs of each `resources/subscribe` not yet unsubscribed, oldest first. */
  subscriptions: string[]
}

/** The persisted form of a session: plain JSON. */
export interface SessionRecord {
  /** Version of this shape. */
  version: 1
  id: string
  /** 1 at creation, one more at each update. */
  revision: number
  /** Milliseconds since the epoch. */
  createdAt: number
  /** Salted hash of whom the session belongs to; null: anonymous. */
  principal: string | null
  /** The protocol version that `initialize` negotiated. */
  protocolVersion: string
  journal: Journal
}

/** Keeps session records. Implementable over any cache with expiry. */
export interface SessionStore {
  /**
   * Stores a new record, durable when it resolves, to expire `ttl` from now.
   * False: the id is taken, or was deleted less than {@link TOMBSTONE_TTL} ago; nothing was changed.
   */
  create(record: SessionRecord, ttl: number): Promise<boolean>
  /** The record; undefined: unknown, expired or deleted. */
  load(id: string): Promise<SessionRecord | undefined>
  /**
   * Replaces the record whose stored revision is `record.revision - 1`, and sets its expiry.
   * False: the stored revision is another one, or there is none; nothing was changed.
   * A store that cannot compare may replace any existing record; then the last of two writers wins.
   */
  update(record: SessionRecord, ttl: number): Promise<boolean>
  /** Lets the record (and its state) expire `ttl` from now. False: there is none. */
  touch(id: string, ttl: number): Promise<boolean>
  /**
   * Removes record and state for good: until {@link TOMBSTONE_TTL} has passed, `create`, `setState` and the event log's `open` refuse the id.
   * False: there was none (the tombstone is set all the same).
   */
  delete(id: string): Promise<boolean>
  /** All records that are there, in no particular order. One that comes or goes meanwhile may be missed, or seen twice. */
  list(): AsyncIterable<SessionRecord>

  /** One value of a session's state. Leave out both methods, and `currentSession().state` says that the store has none. */
  getState?(id: string, key: string): Promise<StateEntry | undefined>
  /**
   * Sets a value, or removes it (`value` undefined), if its stored revision is `expected` (0: there is no value;
   * undefined: whatever it is). State expires with its session's record.
   */
  setState?(id: string, key: string, value: string | undefined, expected?: number): Promise<SetStateOutcome>
}

/** A value of a session's state; its revision differs at each change of that value. */
export interface StateEntry {
  /** JSON text. */
  value: string
  /** Above 0. */
  revision: number
}

/** `conflict`: the stored revision is not the expected one; `gone`: there is no such session. */
export type SetStateOutcome = 'ok' | 'conflict' | 'gone'

/**
 * Keeps the events of streams. A stream is named by its session and a stream id within it. Positions are whole numbers that
 * grow by one with each event of a stream. What is kept is bounded by the log's {@link Retention}; what falls out is the oldest.
 */
export interface EventLog {
  /**
   * Begins a stream that has no events. True also if it is there already (then nothing is changed).
   * False: the session was deleted less than {@link TOMBSTONE_TTL} ago.
   */
  open(session: string, stream: string, init: StreamInit): Promise<boolean>
  /**
   * Appends all events of the batch or none, and resolves when they would survive this process: the position of the last
   * one (of the stream, for an empty batch, which only keeps the stream from expiring). A batch id that is among the
   * stream's last {@link RECENT_BATCHES} changes nothing and resolves like the first time, so that a batch whose outcome was
   * lost can be sent again.
   * Undefined: refused, because there is no such stream, or it has ended, or `batch.writer` is not its writer.
   */
  append(session: string, stream: string, batch: EventBatch): Promise<number | undefined>
  /** At most `limit` events after a position (0: from the oldest kept), and how the stream stands. Undefined: no such stream. */
  read(session: string, stream: string, after: number, limit: number): Promise<StreamSlice | undefined>
  /** Records who follows the stream now; resolves with how it stood before. Undefined: no such stream. */
  attach(session: string, stream: string, reader: string): Promise<StreamInfo | undefined>
  /** Makes `writer` the writer of an unfinished stream whose writer is `from`. Of several that try with names of their own, one gets true. */
  claim(session: string, stream: string, writer: string, from: string): Promise<boolean>
  /** Removes all streams of a session; until {@link TOMBSTONE_TTL} has passed, `open` refuses it. Called after the store's `delete`. */
  delete(session: string): Promise<void>
}

export interface StreamInit {
  /** Whatever the log's user wants to know of the stream later; JSON text. */
  head: string
  /** Who alone may append; undefined: anyone. */
  writer?: string
  /** The first event's position less one. A stream that expired and begins again must not give out old positions. Default 0. */
  base?: number
}

export interface EventBatch {
  /** Unique among the stream's batches. */
  id: string
  /** Who appends; compared to the stream's writer if it has one. */
  writer?: string
  /** JSON text of each event, in order. */
  events: readonly string[]
  /** Whether the stream ends with this batch. */
  end?: boolean
}

export interface StreamInfo {
  head: string
  writer: string | undefined
  reader: string | undefined
  /** Position of the oldest kept event; `last + 1` when none is kept. */
  first: number
  /** Position of the newest event; `base` when there was none. */
  last: number
  ended: boolean
}

export interface StreamSlice extends StreamInfo {
  events: { position: number; data: string }[]
}

/** How much of a stream is kept. */
export interface Retention {
  /** A stream goes this long after its last append. Default 1 hour. */
  ttl?: number
  /** Events kept of one stream. Default 10,000. */
  maxEvents?: number
  /** UTF-16 code units kept of one stream; the newest event stays whatever its size. Default 16 Mi. */
  maxBytes?: number
}

/**
 * Carries messages between nodes, and knows which nodes there are. A message reaches whoever is subscribed to its topic
 * when it is published, once or not at all; nothing else is promised, and the callers live with that.
 */
export interface MessageBus {
  publish(topic: string, message: string): Promise<void>
  /** Resolves when messages published from now on will arrive; with the way to end it. The listener must not throw. */
  subscribe(topic: string, listener: (message: string) => void): Promise<() => Promise<void>>
  /** Says that the node is alive, and to be taken for dead `ttl` from now unless it says so again. */
  beat(node: string, ttl: number): Promise<void>
  /** Ends the node's life at once. */
  leave(node: string): Promise<void>
  /** The nodes alive. */
  nodes(): Promise<string[]>
}

/**
 * How many batches of a stream are known again at least. A stream without a writer is written by several nodes at once:
 * this is how many batches the others may get in while one of them waits to send a batch again.
 */
export const RECENT_BATCHES = 1000

/** How long a deleted session's id stays refused. */
export const TOMBSTONE_TTL = 10 * 60_000

export const DEFAULT_RETENTION: Required<Retention> = {
  ttl: 60 * 60_000,
  maxEvents: 10_000,
  maxBytes: 16 * 1024 * 1024,
}
