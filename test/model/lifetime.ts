/** When a session must be there, and when it must be gone: 404 means gone, and gone means 404. */
import { count } from './tally.js'
import { STALENESS, type Trouble } from './trouble.js'
import type { World } from './world.js'

export const IDLE_TTL = 60_000

export class Lifetime {
  deleteSentAt: number | undefined
  deletedAt: number | undefined
  /** Until when the session cannot have expired. */
  #secureUntil = 0
  /** When the session was last in use for sure or perhaps. */
  #usedAt = 0

  constructor(
    private readonly world: World,
    private readonly trouble: Trouble,
    private readonly violate: (what: string) => void,
  ) {}

  get #now(): number {
    return this.world.clock.now
  }

  /** Whether nobody has tried to end it. */
  get wanted(): boolean {
    return this.deleteSentAt === undefined
  }

  /** The `initialize` was answered. */
  begin(sentAt: number): void {
    this.#secureUntil = sentAt + IDLE_TTL
    this.#usedAt = this.#now
  }

  /** To be called at each moment when time is about to pass, or has passed; `active`: something keeps it in use. */
  look(active: boolean): void {
    if (active || !this.trouble.calmSince(this.#usedAt)) this.#usedAt = this.#now
  }

  /** A DELETE was answered. */
  end(): void {
    this.deletedAt ??= this.#now
  }

  /** A request that was sent then was answered now. */
  judge(status: number, sentAt: number, what: string): void {
    const now = this.#now
    count(`${status} for ${what}`)
    if (status === 404) {
      count(this.wanted ? '404 after expiry' : '404 after DELETE')
      if (this.wanted && now < this.#secureUntil) this.violate(`404 for ${what}, but the session is there`)
      return
    }
    if (status >= 300 && status !== 400) return
    const bound = this.deleteSentAt !== undefined && this.trouble.calmSince(this.deleteSentAt) ? 0 : STALENESS
    if (this.deletedAt !== undefined && sentAt > this.deletedAt + bound)
      this.violate(`${status} for ${what}, ${sentAt - this.deletedAt} ms after DELETE was answered`)
    if (sentAt > this.#usedAt + IDLE_TTL + STALENESS && this.trouble.calmSince(this.#usedAt))
      this.violate(`${status} for ${what}, ${sentAt - this.#usedAt} ms after the session was last used`)
    if (this.trouble.calmSince(sentAt)) this.#secureUntil = Math.max(this.#secureUntil, sentAt + 0.8 * IDLE_TTL)
    this.#usedAt = now
  }
}
