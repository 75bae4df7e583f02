/** Sessions, events and messages in this process's memory: for tests, and for one process that need not survive a restart. */
import type { CompleteBackend, Retention } from './backend.js'
import { messageBus } from './memory/bus.js'
import { eventLog } from './memory/events.js'
import { ExpiringMap } from './memory/expiring-map.js'
import { sessionStore } from './memory/sessions.js'
import { checkClock, checkNames, checkRetention } from './options.js'

export interface MemoryOptions {
  /**
   * How much of streams is kept. Default: 1 hour (of one that has ended: 5 minutes), 10,000 events and 16 Mi UTF-16 code units of
   * each stream, 64 Mi of all streams of a session.
   */
  retention?: Retention
  /** The clock, in milliseconds since the epoch. Default `Date.now`. */
  now?: () => number
}

/** What {@link memory} returns. */
export interface MemoryBackend extends CompleteBackend {}

/**
 * A backend in memory. Everything in it expires; what has expired is removed bit by bit as other things are written, so there
 * is no timer. `close` does nothing: handlers that share one backend can come and go, as nodes would around a server.
 *
 * @throws TypeError if an option cannot be right; the message says what to write.
 *
 * @example
 * ```ts
 * import { memory } from 'mcp-roam/memory'
 *
 * const backend = memory()
 * const before = createSessionHandler(factory, { backend })
 * await before.close()
 * const after = createSessionHandler(factory, { backend }) // a restart: its clients' sessions are all there
 * ```
 */
export function memory(options: MemoryOptions = {}): MemoryBackend {
  checkNames('memory', options, ['retention', 'now'])
  const { now = Date.now } = options
  checkClock('memory', now)
  const retention = checkRetention('memory', options.retention)

  const tombstones = new ExpiringMap<true>(now)
  return {
    name: 'memory',
    sessions: sessionStore(now, tombstones),
    events: eventLog(now, tombstones, retention),
    bus: messageBus(now),
    async ping() {},
    async close() {},
  }
}
