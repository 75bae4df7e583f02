/** An event store for the SDKs' own transports: for programs that want resumable streams and nothing else of this library. */
import { randomUUID } from 'node:crypto'
import type { Backend, EventLog } from './backend/backend.js'
import { bounded } from './backend/bounded.js'
import { sealedEvents } from './backend/sealed/events.js'
import { type Encryption, Keyring } from './backend/sealed/keyring.js'
import { type Cursor, formatEventId, parseEventId, sessionTag, sharedStreamInit } from './stream/event-id.js'
import type { JSONRPCMessage } from './wire/jsonrpc.js'

/** What the transports of both SDK lines take as `eventStore`. All methods reject if the backend is away. */
export interface EventStore {
  /** Keeps a message; resolves with its event id. Rejects if the session was deleted. */
  storeEvent(streamId: string, message: JSONRPCMessage): Promise<string>
  /**
   * The stream of an event. Undefined: the id is not of this session, or what followed it is not kept any more; the transports
   * answer 400 then.
   */
  getStreamIdForEventId(eventId: string): Promise<string | undefined>
  /**
   * Sends what follows the event in its stream (2025-11-25, basic/transports, "Resumability and Redelivery"). Resolves with the
   * stream. Rejects where `getStreamIdForEventId` would say undefined, and with what `send` rejects with.
   */
  replayEventsAfter(
    lastEventId: string,
    options: { send: (eventId: string, message: JSONRPCMessage) => Promise<void> },
  ): Promise<string>
}

/** What both SDK lines call the standalone stream of every session. */
const SDK_STANDALONE = '_GET_stream'
/** Streams that are remembered to be open in the log. To open one again that was forgotten changes nothing. */
const MAX_KNOWN = 256
/** Events that are read from the log at a time. */
const PAGE = 256
/** Longest wait for one answer of the backend, in ms. */
const TIMEOUT = 5000

/**
 * Keeps the events of one session of the SDKs' own Streamable HTTP transport, so that clients can resume its streams: on this
 * process, or on another one that serves the same session with the same backend. It never gives out events of another
 * session. Events expire as the backend's retention says.
 *
 * @param backend One of this library's, or your own; without an event log of its own, events are kept in memory. It is yours
 *   to close.
 * @param sessionId What `sessionIdGenerator` will return; never the same for two sessions.
 * @param options.encryption As the option of `createSessionHandler`. Events that cannot be read then are none: the methods reject.
 * @throws TypeError for keys that cannot be right.
 * @example
 * const backend = sqlite({ file: 'events.db' })
 *
 * // @modelcontextprotocol/sdk (line 1)
 * const sessionId = randomUUID()
 * const transport = new StreamableHTTPServerTransport({
 *   sessionIdGenerator: () => sessionId,
 *   eventStore: toEventStore(backend, sessionId),
 * })
 *
 * // @modelcontextprotocol/server and /node (line 2)
 * const sessionId = randomUUID()
 * const transport = new NodeStreamableHTTPServerTransport({
 *   sessionIdGenerator: () => sessionId,
 *   eventStore: toEventStore(backend, sessionId),
 * })
 */
export function toEventStore(
  backend: Backend,
  sessionId: string,
  { encryption }: { encryption?: Encryption } = {},
): EventStore {
  const log = sealedEvents(logOf(backend), new Keyring(encryption))
  const tag = sessionTag(sessionId)
  const known = new Set<string>()
  const storing = new Map<string, Promise<unknown>>()

  async function open(stream: string): Promise<void> {
    if (!(await log.open(sessionId, stream, sharedStreamInit()))) throw new Error('the session was deleted')
    known.add(stream)
    for (const oldest of known) {
      if (known.size <= MAX_KNOWN) break
      known.delete(oldest)
    }
  }

  async function store(stream: string, message: JSONRPCMessage): Promise<string> {
    const batch = { id: randomUUID(), events: [JSON.stringify(message)] }
    if (!known.has(stream)) await open(stream)
    let position = await log.append(sessionId, stream, batch)
    if (position === undefined) {
      // The stream has expired since.
      await open(stream)
      position = await log.append(sessionId, stream, batch)
    }
    if (position === undefined) throw new Error(`stream ${stream} takes no events`)
    return formatEventId(tag, stream, position)
  }

  /** Where a client that has this event goes on; undefined: what followed may be lost. */
  async function find(eventId: string): Promise<Cursor | undefined> {
    const cursor = parseEventId(tag, eventId)
    const info = cursor && (await log.read(sessionId, cursor.stream, cursor.position, 1))
    if (!info || cursor.position > info.last) return undefined
    // The standalone stream goes on from the oldest event that is kept.
    return cursor.position >= info.first - 1 || cursor.stream === SDK_STANDALONE ? cursor : undefined
  }

  return {
    async storeEvent(streamId, message) {
      // The transport writes an event as soon as it has its id. One after the other, so that they are written in order.
      const before = storing.get(streamId)
      const stored = (before ?? Promise.resolve()).catch(() => {}).then(() => store(streamId, message))
      storing.set(streamId, stored)
      try {
        return await stored
      } finally {
        if (storing.get(streamId) === stored) storing.delete(streamId)
      }
    },

    async getStreamIdForEventId(eventId) {
      return (await find(eventId))?.stream
    },

    async replayEventsAfter(lastEventId, { send }) {
      const cursor = await find(lastEventId)
      if (!cursor) throw new Error('no stream of this session goes on from this event id')
      const { stream } = cursor
      for (let { position } = cursor; ; ) {
        const slice = await log.read(sessionId, stream, position, PAGE)
        for (const event of slice?.events ?? []) {
          position = event.position
          // The transports store an event without a message to tell the client an id.
          if (event.data !== '{}') await send(formatEventId(tag, stream, position), JSON.parse(event.data))
        }
        if (!slice || slice.events.length === 0 || position >= slice.last) return stream
      }
    },
  }
}

const logs = new WeakMap<Backend, EventLog>()

/** One for each backend: if the backend has no event log, its events are kept in this one. */
function logOf(backend: Backend): EventLog {
  const log = logs.get(backend) ?? bounded(backend, TIMEOUT, () => {}).events
  logs.set(backend, log)
  return log
}
