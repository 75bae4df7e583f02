/** The sessions that this node has at hand, live or by a connection, and under which names their store knows that. */
import type { Held, SessionStore } from '../backend/backend.js'
import { type ClusterNode, nodeOf } from '../cluster/node.js'
import { monotonic } from '../util/clock.js'

/** How long it is remembered what was let go of, in ms. */
const MOMENT = 3000

/** So many holders of one session are taken to be more than there can be: it is looked which of them have ended. */
const MANY_HOLDERS = 8

/** So many releases are on their way at a time: nobody waits for them, but for what the store could not do meanwhile. */
const MAX_RELEASES = 8

interface Holding {
  /** Another one each time, so that what takes it out of the store late takes out nothing else. */
  name: string
  unlisten(): void
}

export interface HoldingsHost {
  readonly node: ClusterNode
  readonly store: SessionStore
  /** Whether anything of the session is here. */
  isHeld(session: string): boolean
  /** Has this node answer what others ask about the session; with the way to end that. */
  listen(session: string): () => void
}

export class Holdings {
  readonly #holdings = new Map<string, Holding>()
  /** When sessions were let go of that may not be known to be, by the monotonic clock, oldest first. */
  readonly #releasedAt = new Map<string, number>()
  /** Names that are to be taken out of the store, by session. */
  readonly #releases: [session: string, names: string[]][] = []
  #releasing = 0

  constructor(private readonly host: HoldingsHost) {}

  get size(): number {
    return this.#holdings.size
  }

  /** Holds a session, from before its record is loaded: the name to load it with. */
  hold(session: string): string {
    const { node, listen } = this.host
    const holding = this.#holdings.get(session) ?? { name: node.newName(), unlisten: listen(session) }
    this.#holdings.set(session, holding)
    return holding.name
  }

  isHolder(session: string, { holders }: Held): boolean {
    const name = this.#holdings.get(session)?.name
    return holders === undefined || (name !== undefined && holders.includes(name))
  }

  /** To be called whenever the last of a session may have gone from here. */
  review(session: string): void {
    const holding = this.#holdings.get(session)
    if (!holding || this.host.isHeld(session)) return
    this.forget(session, holding.name)
    this.#releasedAt.delete(session)
    this.#releasedAt.set(session, monotonic())
    this.#forgetReleased()
    this.#release(session, [holding.name])
  }

  /** The sessions that were let go of a moment ago: others may still take this node for a holder. */
  justReleased(): string[] {
    this.#forgetReleased()
    return [...this.#releasedAt.keys()]
  }

  /** The store has no session that is held here, or none that is held under a name. */
  forget(session: string, name?: string): void {
    const holding = this.#holdings.get(session)
    if (!holding || (name !== undefined && holding.name !== name)) return
    holding.unlisten()
    this.#holdings.delete(session)
  }

  /** Says no more that sessions are held here: the others see for themselves that this node has ended. */
  end(): void {
    for (const { unlisten } of this.#holdings.values()) unlisten()
    this.#holdings.clear()
    this.#releases.length = 0
  }

  /**
   * The other nodes that are to be told of what happens to a session: if it cannot be found out which of its holders are
   * alive, all of them.
   *
   * @throws Unavailable if the store keeps no holders, and it cannot be found out which nodes there are.
   */
  async others(session: string, { holders }: Held): Promise<string[]> {
    const { node } = this.host
    if (!holders) return node.others()
    const nodes = [...new Set(holders.map(nodeOf))].filter((other) => other !== node.id)
    if (nodes.length === 0) return []
    const dead = await node.dead(nodes).catch((): string[] => [])
    if (dead.length > 0) {
      this.#release(
        session,
        holders.filter((name) => dead.includes(nodeOf(name))),
      )
    }
    return nodes.filter((other) => !dead.includes(other))
  }

  /** Takes note of who holds a session, and sees to it that names of nodes that have ended do not pile up. */
  loaded(session: string, held: Held): void {
    const { holders = [] } = held
    this.host.node.named(holders.map(nodeOf))
    if (holders.length > MANY_HOLDERS) this.others(session, held).catch(() => {})
  }

  #forgetReleased(): void {
    const now = monotonic()
    for (const [session, at] of this.#releasedAt) {
      if (now - at <= MOMENT) return
      this.#releasedAt.delete(session)
    }
  }

  /** A name that stays in the store does no harm: its node is asked once more than need be, or is dead. */
  #release(session: string, names: string[]): void {
    if (!this.host.store.release) return
    this.#releases.push([session, names])
    if (this.#releasing < MAX_RELEASES) void this.#releaseAll()
  }

  async #releaseAll(): Promise<void> {
    this.#releasing++
    for (let next = this.#releases.shift(); next; next = this.#releases.shift()) {
      try {
        await this.host.store.release?.(...next)
      } catch {
        // The store is away, and has more to do when it is back.
        this.#releases.length = 0
      }
    }
    this.#releasing--
  }
}
