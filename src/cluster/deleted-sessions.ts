/** The sessions that this node has deleted, or heard to be deleted, for as long as the store refuses their ids. */
import { TOMBSTONE_TTL } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'

/** How many are remembered; the oldest is forgotten first. */
const MAX_REMEMBERED = 10_000

export class DeletedSessions {
  /** When each was deleted, by the monotonic clock, oldest first. */
  readonly #deletedAt = new Map<string, number>()

  add(session: string): void {
    this.#deletedAt.delete(session)
    this.#deletedAt.set(session, monotonic())
    const [oldest] = this.#deletedAt.keys()
    if (this.#deletedAt.size > MAX_REMEMBERED && oldest !== undefined) this.#deletedAt.delete(oldest)
  }

  has(session: string): boolean {
    const deletedAt = this.#deletedAt.get(session)
    if (deletedAt === undefined) return false
    if (monotonic() - deletedAt <= TOMBSTONE_TTL) return true
    this.#deletedAt.delete(session)
    return false
  }
}
