/** A bridge for users of the SDKs' own transports who want resumable streams, and nothing else of this library. */
import { randomUUID } from 'node:crypto'
import type { Backend, EventLog } from './backend/backend.js'
import { bounded } from './backend/bounded.js'
import { type Cursor, formatEventId, parseEventId, sessionTag } from './stream/event-id.js'
import type { JSONRPCMessage } from './wire/jsonrpc.js'

/** What the transports of both SDK lines take as `eventStore`. */
export interface EventStore {
  /** Keeps a message; resolves with its event id. Rejects if the backend is away. */
  storeEvent(streamId: string, message: JSONRPCMessage): Promise<string>
  /** Undefined: not an id of this session, or what followed it is not kept any more. The transports answer 400 then. */
  getStreamIdForEventId(eventId: string): Promise<string | undefined>
  /** Sends what follows the event in its stream. */
  replayEventsAfter(
    lastEventId: string,
    options: { send: (eventId: string, message: JSONRPCMessage) => Promise<void> },
  ): Promise<string>
}

/** The stream that GET opens: in both SDK lines, for every session. */
const SDK_STANDALONE = '_GET_stream'
/** Streams known to be in the log already; one that was forgotten is opened once more, which changes nothing. */
const MAX_KNOWN = 256
const PAGE = 256
/** Longest wait for one answer of the backend, in ms. */
const TIMEOUT = 5000

/**
 * Where one session of the SDKs' own Streamable HTTP transport keeps its events, so that clients can resume its streams: on
 * this process, or on another one that serves the same session with the same backend. Nothing of another session is to be
 * had from it, though the SDKs call the standalone stream of every session the same. The session id must be known first.
 * Events go with the backend's retention.
 *
 * @param backend One of this library's, or your own; without an event log of its own, events are kept in memory.
 * @param sessionId What `sessionIdGenerator` returns; never the same for two sessions.
 * @example
 * const backend = sqlite({ file: 'events.db' })
 *
 * // @modelcontextprotocol/sdk (v1)
 * const sessionId = randomUUID()
 * const transport = new StreamableHTTPServerTransport({
 *   sessionIdGenerator: () => sessionId,
 *   eventStore: toEventStore(backend, sessionId),
 * })
 *
 * // @modelcontextprotocol/server and /node (v2)
 * const sessionId = randomUUID()
 * const transport = new NodeStreamableHTTPServerTransport({
 *   sessionIdGenerator: () => sessionId,
 *   eventStore: toEventStore(backend, sessionId),
 * })
 */
export function toEventStore(backend: Backend, sessionId: string): EventStore {
  const log = logOf(backend)
  const tag = sessionTag(sessionId)
  const known = new Set<string>()
  const storing = new Map<string, Promise<unknown>>()

  async function open(stream: string): Promise<void> {
    // positions begin at the clock, so that a stream that was lost and begins again gives out none twice
    const init = { head: '{}', base: Date.now() }
    if (!(await log.open(sessionId, stream, init))) throw new Error('the session was deleted')
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
      // it has expired since
      await open(stream)
      position = await log.append(sessionId, stream, batch)
    }
    if (position === undefined) throw new Error(`stream ${stream} takes no events`)
    return formatEventId(tag, stream, position)
  }

  /** Where to go on; undefined: what followed may be lost. */
  async function find(eventId: string): Promise<Cursor | undefined> {
    const cursor = parseEventId(tag, eventId)
    const info = cursor && (await log.read(sessionId, cursor.stream, cursor.position, 1))
    if (!info || cursor.position > info.last) return undefined
    // a standalone stream goes on from the oldest event kept
    return cursor.position >= info.first - 1 || cursor.stream === SDK_STANDALONE ? cursor : undefined
  }

  return {
    async storeEvent(streamId, message) {
      // The transport writes each event when its id is there: ids must come in the order of the log.
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
          // an event without a message only gives out an id
          if (event.data !== '{}') await send(formatEventId(tag, stream, position), JSON.parse(event.data))
        }
        if (!slice || slice.events.length === 0 || position >= slice.last) return stream
      }
    },
  }
}

const logs = new WeakMap<Backend, EventLog>()

/** One a backend, because what it lacks is kept there. */
function logOf(backend: Backend): EventLog {
  const log = logs.get(backend) ?? bounded(backend, TIMEOUT, () => {}).events
  logs.set(backend, log)
  return log
}
