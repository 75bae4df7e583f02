/** How many sessions may be live on a node, of all principals and of one, and which idle ones go to make room for another. */
import type { Limits } from '../wire/limits.js'
import { Refusal } from '../wire/refusal.js'
import type { LiveSession } from './live.js'
import type { ProvenPrincipal } from './principal.js'

/** Sessions that share a limit: all of the node, or those of one principal. */
class Circle {
  /** Places that are taken. */
  size = 0
  /** Those that may be idle, in the order in which they go. */
  readonly line = new Set<Settled>()
}

/** Taken from before a session is built until it is not live any more. */
export class Place {
  #isFree = false

  constructor(
    readonly circles: readonly Circle[],
    private readonly onfree: () => void,
  ) {
    for (const circle of circles) circle.size++
  }

  /** Gives it back; only the first time counts. */
  free(): void {
    if (this.#isFree) return
    this.#isFree = true
    for (const circle of this.circles) circle.size--
    this.onfree()
  }
}

/** A session that lives on its place. */
export interface Settled {
  readonly live: LiveSession
  readonly place: Place
}

export interface PlacesOptions {
  maxLiveSessions: number
  limits: Pick<Limits, 'principal'>
  isIdle(live: LiveSession): boolean
  /** Has a session leave. */
  evict(live: LiveSession): void
}

export class Places {
  readonly #node = new Circle()
  readonly #principals = new Map<string, Circle>()

  constructor(private readonly options: PlacesOptions) {}

  /**
   * Takes a place for a session of a principal. When there is none, an idle one leaves: the least recently used of the node, or
   * the first to have come of those of that principal.
   *
   * @throws Refusal if all are in use.
   */
  take(principal: ProvenPrincipal): Place {
    const { maxLiveSessions, limits } = this.options
    // Nobody knows how many people share the anonymous sessions.
    const own = typeof principal === 'string' ? (this.#principals.get(principal) ?? new Circle()) : undefined
    if (own && own.size >= limits.principal && !this.#evictOneOf(own)) throw new Refusal('tooManySessions')
    if (this.#node.size >= maxLiveSessions && !this.#evictOneOf(this.#node)) throw new Refusal('full')
    if (!own || typeof principal !== 'string') return new Place([this.#node], () => {})
    this.#principals.set(principal, own)
    return new Place([this.#node, own], () => {
      if (own.size === 0) this.#principals.delete(principal)
    })
  }

  /** It was used: of the node's, it is the last to go now. */
  used(settled: Settled): void {
    this.#node.line.delete(settled)
    this.mayBeIdle(settled)
  }

  /** It may be idle now; if it stands in line, it keeps its place there. */
  mayBeIdle(settled: Settled): void {
    for (const { line } of settled.place.circles) line.add(settled)
  }

  /** It is not live any more. */
  leave(settled: Settled): void {
    for (const { line } of settled.place.circles) line.delete(settled)
    settled.place.free()
  }

  /**
   * False: none is idle. Who is found busy leaves the line until something of its ends, so that a node whose sessions are all
   * in use does not look at all of them each time.
   */
  #evictOneOf({ line }: Circle): boolean {
    for (const settled of line) {
      line.delete(settled)
      if (!this.options.isIdle(settled.live)) continue
      this.options.evict(settled.live)
      return true
    }
    return false
  }
}
