/**
 * What mcp-roam asks of the place where sessions live: three contracts behind one {@link Backend}.
 *
 * Only the {@link SessionStore} is required. Without an {@link EventLog} and a {@link MessageBus} of their own, streams and
 * routing use the node's memory: a session is still restored on any node, its streams stay on theirs.
 *
 * A method that cannot do its work right now (connection lost, disk full) rejects; the caller answers 503 and tries again
 * later. `false` and `undefined` are answers about the data, never about trouble. No method needs a time limit of its own:
 * the caller sets one. All durations are in milliseconds.
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
  /** Rejects when the backend cannot be reached. Default: it is taken to be there. */
  ping?(): Promise<void>
  /**
   * Releases connections and files that the backend opened itself; a client that the user handed in stays open. May be called
   * more than once.
   */
  close?(): Promise<void>
}

/** A backend with nothing left out: what `memory()`, `sqlite()`, `redis()` and `postgres()` return. */
export interface CompleteBackend extends Backend {
  readonly name: string
  readonly sessions: Required<SessionStore>
  readonly events: EventLog
  readonly bus: MessageBus
  ping(): Promise<void>
  close(): Promise<void>
}

/** The client messages that define a session's protocol state; a restore feeds them to a new server instance. */
export interface Journal {
  /** Parameters of the client's `initialize`. */
  initialize: NonNullable<JSONRPCRequest['params']>
  /** Whether `notifications/initialized` was received. */
  initialized: boolean
  /** Parameters of the last `logging/setLevel`; undefined: there was none. */
  setLevel?: NonNullable<JSONRPCRequest['params']>
  /** URIs of each `resources/subscribe` not yet unsubscribed, oldest first. */
  subscriptions: string[]
}

/**
 * The persisted form of a session: plain JSON. With the option `encryption` a store is given another one: `version`, `id`,
 * `revision`, `ancestors` and `createdAt` as here, and `sealed`, a text, in the place of the rest.
 */
export interface SessionRecord {
  /**
   * Version of this shape. Nodes of two releases work side by side: a release must read the next version before any release
   * writes it.
   */
  version: 1
  /** The session id. Any text: a store must keep different ids apart, whatever characters they have. */
  id: string
  /** 1 at creation, higher after each update. */
  revision: number
  /** The last revisions before this one, oldest first, so that a node can tell that a record was written without knowing its own. */
  ancestors?: number[]
  /** When the session was created, in milliseconds since the epoch. */
  createdAt: number
  /** Salted hash of whom the session belongs to; null: anonymous. */
  principal: string | null
  /** The protocol version that `initialize` negotiated. */
  protocolVersion: string
  journal: Journal
}

/**
 * Who must be told when a record changes: the names of all that hold its session, which is to have it live, or to have a
 * connection that follows one of its streams. A name is of letters, digits, `-`, `_` and `:`; no two that hold a session ever
 * have the same one.
 */
export interface Held {
  /** Undefined: the store does not keep them. Then all nodes are told. */
  holders?: readonly string[]
}

/** How a session stands: all of it but its record. */
export interface SessionStanding extends Held {
  revision: number
}

/** A session as its store has it. */
export interface StoredSession extends Held {
  record: SessionRecord
}

/**
 * Keeps session records, and beside each its holders. Implementable over any cache with expiry, which may ignore holders.
 *
 * A holder is added in the step that loads the record, and `update` and `delete` resolve with those that were there in their
 * step. So who loaded the record before a change is told of it, and who loads it afterwards sees it.
 */
export interface SessionStore {
  /**
   * Stores a new record, durable when it resolves, to expire `ttl` from now; `holder` is its first holder.
   * False: the id is taken, or was deleted less than {@link TOMBSTONE_TTL} ago; nothing was changed.
   */
  create(record: SessionRecord, ttl: number, holder?: string): Promise<boolean>
  /** The session, `holder` being one of its holders from now on. Undefined: unknown, expired or deleted. */
  load(id: string, holder?: string): Promise<StoredSession | undefined>
  /**
   * How sessions stand, each in its place; undefined: there is no such session. Those that nothing happens to are looked at
   * again and again, so it is meant to be one round trip for all, of which there are at most {@link MAX_SESSIONS}. Without it
   * each is loaded.
   */
  look?(ids: readonly string[]): Promise<(SessionStanding | undefined)[]>
  /** Takes names out of a session's holders. Nothing if there is no such session, or they are no holders. */
  release?(id: string, holders: readonly string[]): Promise<void>
  /**
   * Replaces the record whose stored revision is `expected`, and sets its expiry to `ttl` from now. The new revision,
   * `record.revision`, may be any higher one: a node that finds the store behind what it knows writes one above both.
   * Undefined: the stored revision is another one, or there is none; nothing was changed.
   * A store that cannot compare may replace any existing record; then the last of two writers wins.
   */
  update(record: SessionRecord, expected: number, ttl: number): Promise<Held | undefined>
  /** Lets the record (and its state) expire `ttl` from now. False: there is none. */
  touch(id: string, ttl: number): Promise<boolean>
  /**
   * Removes record and state for good: until {@link TOMBSTONE_TTL} has passed, `create`, `setState` and the event log's `open`
   * refuse the id. Undefined: there was no record; the id is refused all the same.
   */
  delete(id: string): Promise<Held | undefined>
  /**
   * All records that are there, in no particular order. One that comes or goes meanwhile may be missed, or given twice.
   * The caller limits the time for each record, not for the whole listing, and may stop before the end.
   */
  list(): AsyncIterable<SessionRecord>

  /**
   * One value of a session's state; undefined: there is no such value, or no such session.
   * A store may leave out both methods of state; then `currentSession().state` says that it has none.
   */
  getState?(id: string, key: string): Promise<StateEntry | undefined>
  /**
   * Sets a value, or removes it (`value` undefined), if its stored revision is `expected` (0: there is no value;
   * undefined: whatever it is). State expires with its session's record.
   *
   * A change that would bring the session's state over `limit` is refused, in the same step; one that makes it no larger never
   * is. A store may leave the limit out of account: then there is none.
   */
  setState?(
    id: string,
    key: string,
    value: string | undefined,
    expected?: number,
    limit?: StateLimit,
  ): Promise<SetStateOutcome>
}

/** How much state a session may have. Keys that begin with {@link OWN_STATE} do not count. */
export interface StateLimit {
  /** How many keys. */
  keys: number
  /** UTF-16 code units of all keys and values. */
  size: number
}

/** A value of a session's state. */
export interface StateEntry {
  /** JSON text. */
  value: string
  /** Above 0, and another one after each change, also when the value was removed in between. */
  revision: number
}

/**
 * `conflict`: the stored revision is not the expected one; `gone`: there is no such session; `too-many`, `too-large`: over the
 * limit of keys, or of size. Nothing was changed unless it is `ok`.
 */
export type SetStateOutcome = 'ok' | 'conflict' | 'gone' | 'too-many' | 'too-large'

/**
 * Keeps the events of streams. A stream is named by its session and a stream id within it. Positions are whole numbers that
 * grow by one with each event of a stream. How much is kept is bounded by the log's {@link Retention}: the oldest events of a
 * stream are removed first, and of a session the streams that have ended.
 */
export interface EventLog {
  /** How long a stream is kept after its last append, in ms. Default: an hour. One that has ended is kept {@link FINISHED_TTL}. */
  readonly ttl?: number
  /**
   * Begins a stream that has no events. True also if it is there already (then nothing is changed).
   * False: the session was deleted less than {@link TOMBSTONE_TTL} ago.
   */
  open(session: string, stream: string, init: StreamInit): Promise<boolean>
  /**
   * Appends all events of the batch or none, and resolves when they would survive this process: with the position of the last
   * one. An empty batch only keeps the stream from expiring, and resolves with the position of the stream's last event.
   *
   * A batch that was appended before changes nothing and resolves like the first time, so that one whose outcome was lost can
   * be sent again. How long its id is known depends on the stream:
   * - A stream with a writer knows its last batch, for its writer sends one after the other and repeats none but the last. A
   *   batch that is not that one and whose `after` the stream has passed came late, and is refused: its writer has repeated it
   *   since, and gone on. After a `claim` the batch of the former writer need not be known.
   * - A stream without a writer knows those that are among its last {@link RECENT_BATCHES} and not older than
   *   {@link BATCH_TTL}.
   *
   * An empty batch that does not end the stream needs no id to be known: it may be repeated as it is, and never comes late.
   *
   * Undefined: refused, because there is no such stream, or it has ended, or `batch.writer` is not its writer, or it came late.
   */
  append(session: string, stream: string, batch: EventBatch): Promise<number | undefined>
  /** At most `limit` events after a position (0: from the oldest kept), and how the stream stands. Undefined: no such stream. */
  read(session: string, stream: string, after: number, limit: number): Promise<StreamSlice | undefined>
  /** Records who follows the stream now; resolves with how the stream stood before. Undefined: no such stream. */
  attach(session: string, stream: string, reader: string): Promise<StreamInfo | undefined>
  /** Records up to which position the stream was sent to its client; the highest counts. Nothing if there is no such stream. */
  sent(session: string, stream: string, position: number): Promise<void>
  /**
   * Makes `writer` the writer of an unfinished stream whose writer is `from`. Of several that try at once, each under a name of
   * its own, one gets true.
   */
  claim(session: string, stream: string, writer: string, from: string): Promise<boolean>
  /**
   * How streams stand, each in its place; undefined: no such stream. Streams that nothing happens on are looked at again and
   * again, so it is meant to be one round trip for all, of which there are at most {@link MAX_STREAMS}.
   */
  look(streams: readonly StreamName[]): Promise<(StreamStanding | undefined)[]>
  /** Keeps streams from expiring, as an append would, ended or not. Nothing for those that are not there. At most {@link MAX_STREAMS}. */
  keep(streams: readonly StreamName[]): Promise<void>
  /** Removes all streams of a session; until {@link TOMBSTONE_TTL} has passed, `open` refuses it. Called after the store's `delete`. */
  delete(session: string): Promise<void>
}

/** How a stream begins. */
export interface StreamInit {
  /** JSON text that is given back with the stream; its meaning is the caller's alone. */
  head: string
  /** Who alone may append; undefined: anyone. */
  writer?: string
  /**
   * The first event's position less one. Not 0 when a stream that has expired begins again: it must not give out positions that
   * it gave out before. Default 0.
   */
  base?: number
}

/** Events that are appended together. */
export interface EventBatch {
  /** Unique among the stream's batches. */
  id: string
  /** Who appends; compared to the stream's writer if it has one. */
  writer?: string
  /** JSON text of each event, in order. */
  events: readonly string[]
  /** Whether the stream ends with this batch. Default false. */
  end?: boolean
  /**
   * The position of an event that the log has acknowledged before. A stream that stands behind it has gone backwards (a
   * failover with lag, a restore): what it still has is dropped, and the batch follows that position. Given by the writer of a
   * stream; where anyone may append, what others have appended since would be dropped with it.
   */
  after?: number
}

/** What a stream is called. */
export interface StreamName {
  /** The session's id. */
  readonly session: string
  /** Its id within the session. */
  readonly stream: string
}

/** How a stream stands, and how it began. */
export interface StreamInfo extends StreamStanding {
  /** As it was given to `open`. */
  head: string
}

/** How a stream stands. */
export interface StreamStanding {
  /** Who alone may append; undefined: anyone. */
  writer: string | undefined
  /** Who attached last; undefined: nobody yet. */
  reader: string | undefined
  /** The position up to which the stream was sent to its client, as far as `sent` was told. */
  sent: number | undefined
  /** Position of the oldest kept event; `last + 1` when none is kept. */
  first: number
  /** Position of the newest event; `base` when there was none. */
  last: number
  /** Whether a batch has ended the stream. */
  ended: boolean
}

/** Events of a stream, and how it stood when they were read. */
export interface StreamSlice extends StreamInfo {
  /** In the order of their positions. `data` is JSON text. */
  events: { position: number; data: string }[]
}

/**
 * How much of streams is kept. Each value is at least 1.
 *
 * What is dropped is told to a client that has not got it: `first` of its stream says what is gone.
 */
export interface Retention {
  /** A stream is removed this long after its last append, in milliseconds; after its end {@link FINISHED_TTL}. Default 1 hour. */
  ttl?: number
  /** Events kept of one stream. Default 10,000. */
  maxEvents?: number
  /** UTF-16 code units kept of one stream; the newest event stays whatever its size. Default 16 Mi. */
  maxBytes?: number
  /**
   * UTF-16 code units kept of all streams of one session: events, heads, and {@link STREAM_WEIGHT} for each stream. An append that
   * makes it more drops from the session's other streams, until it is enough:
   *
   * 1. all events of a stream that has ended, beginning with the one that ended first; how it stands stays known,
   * 2. such streams without events as a whole, in the same order,
   * 3. the oldest events of streams that have not ended, beginning with the one that nothing was appended to for longest;
   *
   * and in the end the oldest events of its own stream. The newest event of a stream that has not ended, and of the one that is
   * appended to, stays. A stream may be counted from its first append on. Default 64 Mi.
   */
  maxSessionBytes?: number
}

/**
 * Carries messages between nodes, and knows which nodes there are. A message reaches those who are subscribed to its topic
 * when it is published, at most once each. It may get lost, and nothing is promised of the order.
 */
export interface MessageBus {
  /** Resolves when the message is on its way. */
  publish(topic: string, message: string): Promise<void>
  /**
   * Resolves when messages published from now on will arrive, with a function that ends the subscription. The listener must
   * not throw.
   */
  subscribe(topic: string, listener: (message: string) => void): Promise<() => Promise<void>>
  /** Says that the node is alive. `ttl` from now it counts as dead, unless it has said so again. */
  beat(node: string, ttl: number): Promise<void>
  /** Says that the node is not alive any more, before its `ttl` is over. */
  leave(node: string): Promise<void>
  /** The nodes alive. */
  nodes(): Promise<string[]>
  /** Whether it is certain that a node has ended, whatever became of its heartbeat. Leave it out where that cannot be known. */
  isGone?(node: string): Promise<boolean>
}

/**
 * Batches of a stream without a writer whose ids an event log knows, at least. Such a stream is written by several nodes at
 * once: this is how many batches the others may get in while one of them waits to send a batch again.
 */
export const RECENT_BATCHES = 1000

/** How long an event log knows them, at least, in milliseconds: 5 minutes. */
export const BATCH_TTL = 5 * 60_000

/**
 * How long a stream is kept after it has ended, in milliseconds: 5 minutes, or `retention.ttl` if that is shorter. Time for a
 * client that has lost the end to come back for it.
 */
export const FINISHED_TTL = 5 * 60_000

/** What a stream counts for in {@link Retention.maxSessionBytes} beside its head and events: for that much room, whatever it holds. */
export const STREAM_WEIGHT = 1024

/** Sessions that a store is asked about at once, at most. */
export const MAX_SESSIONS = 256

/** Streams that an event log is asked about at once, at most. */
export const MAX_STREAMS = 256

/** How the keys of a session's state begin that are this library's own: users' code cannot reach them, and no limit is for them. */
export const OWN_STATE = 'mcp-roam:'

/** How long a deleted session's id stays refused, in milliseconds: 10 minutes. */
export const TOMBSTONE_TTL = 10 * 60_000

/** What of {@link Retention} holds where nothing else is asked for. */
export const DEFAULT_RETENTION: Required<Retention> = {
  ttl: 60 * 60_000,
  maxEvents: 10_000,
  maxBytes: 16 * 1024 * 1024,
  maxSessionBytes: 64 * 1024 * 1024,
}
