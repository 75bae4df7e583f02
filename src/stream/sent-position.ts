/**
 * How far the connection of a standalone stream has sent it, kept in the log: the next connection goes on from there when its
 * client names no event id, also after the node is gone. Written a moment late, so that a burst costs one write.
 */
import type { EventLog } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'

/** What a node may take with it when it dies is heard twice, so it is little, in ms. */
const WRITE_AFTER = 500
/** How long a log that is away is tried after the connection has ended, in ms. */
const END_PATIENCE = 10_000

export class SentPosition {
  #timer: NodeJS.Timeout | undefined
  /** By the monotonic clock. */
  #tryUntil = Number.POSITIVE_INFINITY
  /** The log has said that it has this position: it knows it, or a later one, as long as it does not go backwards. */
  #acknowledged: number | undefined

  constructor(
    private readonly log: EventLog,
    private readonly session: string,
    private readonly stream: string,
    /** The position that the log knows of. */
    private written: number,
    /** The position of the last event that was sent. */
    private readonly position: () => number,
  ) {}

  /** Something was sent. */
  note(): void {
    this.#timer ??= setTimeout(() => void this.write(), WRITE_AFTER).unref()
  }

  /** The connection has ended: nothing more will be sent. */
  end(): Promise<void> {
    this.#tryUntil = monotonic() + END_PATIENCE
    return this.write()
  }

  /** Whether the log has lost the position, being asked how the stream stands; then it is told again. */
  isLost(recorded: number | undefined): boolean {
    if (this.#acknowledged === undefined || (recorded !== undefined && recorded >= this.#acknowledged)) return false
    this.lose()
    return true
  }

  /** The log went backwards, and may know of no position. */
  lose(): void {
    this.#acknowledged = undefined
    this.written = NaN
    this.note()
  }

  /** Never rejects: what the log does not take is written again a moment later. */
  async write(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const position = this.position()
    const before = this.written
    if (position === before) return
    this.written = position
    try {
      await this.log.sent(this.session, this.stream, position)
      this.#acknowledged = position
    } catch {
      if (this.written === position) this.written = before
      if (monotonic() < this.#tryUntil) this.note()
    }
  }
}
