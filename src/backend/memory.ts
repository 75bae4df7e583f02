/** Sessions, events and messages in this process's memory: for tests, and for one process that need not survive a restart. */
import {
  type Backend,
  DEFAULT_RETENTION,
  type EventLog,
  type MessageBus,
  RECENT_BATCHES,
  type Retention,
  type SessionRecord,
  type SessionStore,
  type StreamInfo,
  TOMBSTONE_TTL,
} from './backend.js'

export interface MemoryOptions {
  /** How much of each stream is kept. Default: 1 hour, 10,000 events, 16 Mi UTF-16 code units. */
  retention?: Retention
  /** The clock, in milliseconds since the epoch. Default `Date.now`. */
  now?: () => number
}

/**
 * A backend in memory. Everything in it expires; what has expired is removed bit by bit as other things are written, so there
 * is no timer. It has no `close`: handlers that share one backend can come and go, as nodes would around a server.
 *
 * @example
 * ```ts
 * const backend = memory()
 * const before = createSessionHandler(factory, { backend })
 * await before.close()
 * const after = createSessionHandler(factory, { backend }) // a restart: its clients' sessions are all there
 * ```
 */
export function memory(options: MemoryOptions = {}): Backend {
  const now = options.now ?? Date.now
  const tombstones = new ExpiringMap<true>(now)
  return {
    name: 'memory',
    sessions: memorySessions(now, tombstones),
    events: memoryEvents(now, tombstones, { ...DEFAULT_RETENTION, ...options.retention }),
    bus: memoryBus(now),
  }
}

type Clock = () => number

/** Entries looked at for expiry at each write: more than the one that a write may add, so garbage cannot pile up. */
const SWEEP = 4

/** A map whose entries expire: never returned once they have, and removed by the writes that follow. */
class ExpiringMap<V> {
  readonly #now: Clock
  readonly #entries = new Map<string, { value: V; expires: number }>()
  #sweep = this.#entries.entries()

  constructor(now: Clock) {
    this.#now = now
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key)
    if (!entry) return undefined
    if (entry.expires > this.#now()) return entry.value
    this.#entries.delete(key)
    return undefined
  }

  set(key: string, value: V, ttl: number): void {
    this.#entries.set(key, { value, expires: this.#now() + ttl })
    for (let looked = 0; looked < SWEEP; looked++) {
      const next = this.#sweep.next()
      if (next.done) {
        this.#sweep = this.#entries.entries()
        return
      }
      const [candidate, { expires }] = next.value
      if (expires <= this.#now()) this.#entries.delete(candidate)
    }
  }

  /** True: there was one, not expired. */
  delete(key: string): boolean {
    const there = this.get(key) !== undefined
    this.#entries.delete(key)
    return there
  }

  /** The keys of now; what they name may be gone by the time it is looked up. */
  keys(): string[] {
    return [...this.#entries.keys()]
  }
}

interface StoredSession {
  /** JSON text, so that nobody shares an object with the store. */
  record: string
  revision: number
  state: Map<string, { value: string; revision: number }>
}

function memorySessions(now: Clock, tombstones: ExpiringMap<true>): Required<SessionStore> {
  const sessions = new ExpiringMap<StoredSession>(now)
  // Shared by all values, so that a value which is removed and set again does not get an old revision.
  let revisions = 0

  return {
    async create(record, ttl) {
      if (sessions.get(record.id) || tombstones.get(record.id)) return false
      sessions.set(record.id, { record: JSON.stringify(record), revision: record.revision, state: new Map() }, ttl)
      return true
    },

    async load(id) {
      return parse(sessions.get(id))
    },

    async update(record, ttl) {
      const stored = sessions.get(record.id)
      if (stored?.revision !== record.revision - 1) return false
      stored.record = JSON.stringify(record)
      stored.revision = record.revision
      sessions.set(record.id, stored, ttl)
      return true
    },

    async touch(id, ttl) {
      const stored = sessions.get(id)
      if (!stored) return false
      sessions.set(id, stored, ttl)
      return true
    },

    async delete(id) {
      tombstones.set(id, true, TOMBSTONE_TTL)
      return sessions.delete(id)
    },

    async *list() {
      for (const id of sessions.keys()) {
        const record = parse(sessions.get(id))
        if (record) yield record
      }
    },

    async getState(id, key) {
      const entry = sessions.get(id)?.state.get(key)
      return entry && { ...entry }
    },

    async setState(id, key, value, expected) {
      const state = sessions.get(id)?.state
      if (!state) return 'gone'
      if (expected !== undefined && (state.get(key)?.revision ?? 0) !== expected) return 'conflict'
      if (value === undefined) state.delete(key)
      else state.set(key, { value, revision: ++revisions })
      return 'ok'
    },
  }
}

function parse(stored: StoredSession | undefined): SessionRecord | undefined {
  return stored && JSON.parse(stored.record)
}

interface StoredStream extends StreamInfo {
  /** From position `first` on. */
  events: string[]
  /** Total length of the events. */
  size: number
  /** Last position of each recent batch, oldest first. */
  batches: Map<string, number>
}

function memoryEvents(now: Clock, tombstones: ExpiringMap<true>, retention: Required<Retention>): EventLog {
  // By session, then by stream: nothing is ever joined to a key. A session's entry outlives each of its streams.
  const sessions = new ExpiringMap<ExpiringMap<StoredStream>>(now)
  const find = (session: string, stream: string) => sessions.get(session)?.get(stream)

  function keep(session: string, stream: string, stored: StoredStream): void {
    const streams = sessions.get(session) ?? new ExpiringMap<StoredStream>(now)
    streams.set(stream, stored, retention.ttl)
    sessions.set(session, streams, retention.ttl)
  }

  function add(stored: StoredStream, events: readonly string[]): void {
    for (const event of events) {
      stored.events.push(event)
      stored.size += event.length
    }
    stored.last += events.length
    let drop = Math.max(0, stored.events.length - Math.max(1, retention.maxEvents))
    for (const event of stored.events.slice(0, drop)) stored.size -= event.length
    while (stored.size > retention.maxBytes && drop < stored.events.length - 1) {
      stored.size -= stored.events[drop]!.length
      drop++
    }
    if (drop > 0) stored.events.splice(0, drop)
    stored.first += drop
  }

  return {
    async open(session, stream, { head, writer, base = 0 }) {
      if (tombstones.get(session)) return false
      if (find(session, stream)) return true
      const info = { head, writer, reader: undefined, first: base + 1, last: base, ended: false }
      keep(session, stream, { ...info, events: [], size: 0, batches: new Map() })
      return true
    },

    async append(session, stream, batch) {
      const stored = find(session, stream)
      if (!stored) return undefined
      const before = stored.batches.get(batch.id)
      if (before !== undefined) return before
      if (stored.ended || (stored.writer !== undefined && stored.writer !== batch.writer)) return undefined
      add(stored, batch.events)
      if (batch.end) stored.ended = true
      stored.batches.set(batch.id, stored.last)
      if (stored.batches.size > RECENT_BATCHES) {
        for (const oldest of stored.batches.keys()) {
          stored.batches.delete(oldest)
          break
        }
      }
      keep(session, stream, stored)
      return stored.last
    },

    async read(session, stream, after, limit) {
      const stored = find(session, stream)
      if (!stored) return undefined
      const from = Math.max(after + 1, stored.first)
      const start = from - stored.first
      const events = stored.events.slice(start, start + limit).map((data, index) => ({ position: from + index, data }))
      return { ...infoOf(stored), events }
    },

    async attach(session, stream, reader) {
      const stored = find(session, stream)
      if (!stored) return undefined
      const before = infoOf(stored)
      stored.reader = reader
      return before
    },

    async claim(session, stream, writer, from) {
      const stored = find(session, stream)
      if (!stored || stored.ended || stored.writer !== from) return false
      stored.writer = writer
      return true
    },

    async delete(session) {
      tombstones.set(session, true, TOMBSTONE_TTL)
      sessions.delete(session)
    },
  }
}

function infoOf({ head, writer, reader, first, last, ended }: StoredStream): StreamInfo {
  return { head, writer, reader, first, last, ended }
}

function memoryBus(now: Clock): MessageBus {
  const topics = new Map<string, Set<(message: string) => void>>()
  const nodes = new ExpiringMap<true>(now)

  return {
    async publish(topic, message) {
      // Listeners run after the publisher has gone on, as they would across a network.
      for (const listener of topics.get(topic) ?? []) {
        queueMicrotask(() => {
          if (topics.get(topic)?.has(listener)) listener(message)
        })
      }
    },

    async subscribe(topic, listener) {
      // A function of its own for each subscription: the same listener may be subscribed twice.
      const own = (message: string) => listener(message)
      const listeners = topics.get(topic) ?? new Set()
      topics.set(topic, listeners.add(own))
      return async () => {
        listeners.delete(own)
        if (listeners.size === 0 && topics.get(topic) === listeners) topics.delete(topic)
      }
    },

    async beat(node, ttl) {
      nodes.set(node, true, ttl)
    },

    async leave(node) {
      nodes.delete(node)
    },

    async nodes() {
      return nodes.keys().filter((node) => nodes.get(node))
    },
  }
}
