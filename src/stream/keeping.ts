/** Keeps the streams that are followed on this node from expiring. */
import { DEFAULT_RETENTION, type EventLog, FINISHED_TTL, MAX_STREAMS } from '../backend/backend.js'
import { Interval } from '../util/interval.js'
import type { Connection } from './connection.js'
import { STANDALONE } from './event-id.js'
import type { OpenConnections } from './open-connections.js'
import { refreshInterval } from './writers.js'

export class Keeping {
  readonly #intervals: readonly Interval[]

  constructor(
    private readonly log: EventLog,
    private readonly open: OpenConnections,
  ) {
    const { ttl = DEFAULT_RETENTION.ttl } = log
    this.#intervals = [
      new Interval(refreshInterval(ttl), () => this.#keep(({ stream }) => stream === STANDALONE)),
      // What is being read may have ended, and may take a slow client longer than it would be kept.
      new Interval(refreshInterval(Math.min(FINISHED_TTL, ttl)), () => this.#keep(({ isReading }) => isReading)),
    ]
  }

  /** To be called when a connection opens. */
  start(): void {
    for (const interval of this.#intervals) interval.start()
  }

  stop(): void {
    for (const interval of this.#intervals) interval.stop()
  }

  /** In parts, one after the other, so that a node with many idle connections asks nothing much of the log at once. */
  async #keep(which: (connection: Connection) => boolean): Promise<void> {
    if (this.open.size === 0) return this.stop()
    const connections = this.open.all().filter(which)
    const names = connections.map(({ session, stream }) => ({ session, stream }))
    for (let start = 0; start < names.length; start += MAX_STREAMS) {
      // One that fails is made up for by the next.
      await this.log.keep(names.slice(start, start + MAX_STREAMS)).catch(() => {})
    }
  }
}
