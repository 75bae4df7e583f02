/** Sessions, events and messages in this process's memory: for tests, and for one process that need not survive a restart. */
import { type Backend, DEFAULT_RETENTION, type Retention } from './backend.js'
import { messageBus } from './memory/bus.js'
import { eventLog } from './memory/events.js'
import { ExpiringMap } from './memory/expiring-map.js'
import { sessionStore } from './memory/sessions.js'

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
    sessions: sessionStore(now, tombstones),
    events: eventLog(now, tombstones, { ...DEFAULT_RETENTION, ...options.retention }),
    bus: messageBus(now),
  }
}
