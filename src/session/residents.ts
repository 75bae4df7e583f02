/** The live sessions of a node, and which of them go when they are idle. */
import { monotonic } from '../util/clock.js'
import type { Limits } from '../wire/limits.js'
import type { LiveSession } from './live.js'
import { type Place, Places, type Settled } from './places.js'
import { type Principal, type ProvenPrincipal, samePrincipal } from './principal.js'

export interface Resident extends Settled {
  /** Whom the session was last found to belong to. */
  principal: ProvenPrincipal
  /** On its way to being compared with the store. */
  checking?: Promise<void>
  /** How many nodes held the session when it was last looked at. */
  holders?: number
}

/** Whether a session belongs to a principal. Hashes only one that is not the one of the request before. */
export function belongs(resident: Resident, principal: Principal): boolean {
  if (principal === resident.principal) return true
  const { id, record, view } = resident.live
  if (!record || !samePrincipal(id, record.principal, principal)) return false
  resident.principal = principal
  view.principal = principal
  return true
}

export interface ResidentsOptions {
  /** How long an idle one stays, in ms; where several nodes hold a session, that is divided among them. */
  liveIdle: number
  maxLiveSessions: number
  limits: Pick<Limits, 'principal'>
  /** Whether nothing would be lost, or noticed, if the instance went away. */
  isIdle(live: LiveSession): boolean
}

export class Residents {
  readonly #residents = new Map<string, Resident>()
  readonly #places: Places

  constructor(private readonly options: ResidentsOptions) {
    this.#places = new Places({ ...options, evict: (live) => this.#evict(live) })
  }

  get size(): number {
    return this.#residents.size
  }

  get(id: string): Resident | undefined {
    return this.#residents.get(id)
  }

  has(id: string): boolean {
    return this.#residents.has(id)
  }

  ids(): string[] {
    return [...this.#residents.keys()]
  }

  all(): Resident[] {
    return [...this.#residents.values()]
  }

  /**
   * A place for a session that is to be built here.
   *
   * @throws Refusal if all are in use.
   */
  take(principal: ProvenPrincipal): Place {
    return this.#places.take(principal)
  }

  add(resident: Resident): void {
    const { live } = resident
    // The program knew the id before its client did, and used the session while it was being initialized.
    const other = this.#residents.get(live.id)
    if (other) this.#evict(other.live)
    this.#residents.set(live.id, resident)
    live.usedAt = monotonic()
    this.#places.used(resident)
  }

  /** Takes a session out without a word to it. */
  remove(id: string): Resident | undefined {
    const resident = this.#residents.get(id)
    if (!resident) return undefined
    this.#residents.delete(id)
    this.#places.leave(resident)
    return resident
  }

  /** Lets go of a session that is closed. */
  forget(live: LiveSession): void {
    if (this.#residents.get(live.id)?.live === live) this.remove(live.id)
  }

  /** Something that ran on the session has ended: of all sessions, it is the last to be dropped now. */
  used(id: string): void {
    const resident = this.#residents.get(id)
    if (!resident) return
    resident.live.usedAt = monotonic()
    if (this.options.liveIdle === 0 && this.options.isIdle(resident.live)) this.#evict(resident.live)
    else this.#places.used(resident)
  }

  /** Drops what is idle for too long; calls `check` for each that is not idle. */
  sweep(check: (busy: Resident) => void): void {
    const now = monotonic()
    for (const resident of this.all()) {
      const { live } = resident
      if (!this.options.isIdle(live)) check(resident)
      else if (now - live.usedAt >= this.options.liveIdle / (resident.holders ?? 1)) this.#evict(live)
      else this.#places.mayBeIdle(resident)
    }
  }

  #evict(live: LiveSession): void {
    this.forget(live)
    void live.dispose()
  }
}
