/** How sure this node is that the sessions it has are still in the store as it knows them; and that they do not expire there. */
import {
  type Held,
  MAX_SESSIONS,
  type SessionRecord,
  type SessionStanding,
  type SessionStore,
  type StoredSession,
} from '../backend/backend.js'
import type { ClusterNode } from '../cluster/node.js'
import { monotonic } from '../util/clock.js'
import type { LiveSession } from './live.js'
import type { Resident } from './residents.js'

/** A live session in use is compared with the store this often, in ms. */
export const CHECK_INTERVAL = 2000
/** The longest that a live session is served without being sure that the store still has it, in ms. */
const MAX_STALENESS = 5000
/** The longest between two refreshes of the expiry of a session in use, in ms. */
const MAX_TOUCH_INTERVAL = 60 * 60_000

export interface FreshnessOptions {
  /** A session nobody uses is forgotten after this, in ms. */
  idleTtl: number
  /** A session is forgotten this long after its `initialize`, in ms; undefined: never. */
  maxAge: number | undefined
  /** The store does not have a session any more that is live, or has streams, here. */
  ongone(id: string, record: SessionRecord | undefined): Promise<void>
  /** Whether a session is stored as held by this node. */
  isHolder(id: string, held: Held): boolean
  /** The session as it is stored, which this node holds. */
  load(id: string): Promise<StoredSession | undefined>
}

export class Freshness {
  /** When the expiry of a session was refreshed that has only streams here, by session. */
  readonly #streamOnlyTouchedAt = new Map<string, number>()

  constructor(
    private readonly node: ClusterNode,
    private readonly store: Pick<SessionStore, 'look' | 'touch'>,
    private readonly options: FreshnessOptions,
  ) {}

  /** Time to live of a record from now, in ms. */
  ttlOf(record: SessionRecord): number {
    const { idleTtl, maxAge } = this.options
    return maxAge === undefined ? idleTtl : Math.max(1, Math.min(idleTtl, record.createdAt + maxAge - Date.now()))
  }

  /**
   * Whether what is known of a live session should (`old`) or must (`too old`) be compared with the store.
   *
   * @param asOf The time, by the monotonic clock, at which that is asked. Default: now.
   */
  doubt(live: LiveSession, asOf = monotonic()): 'old' | 'too old' | undefined {
    const age = asOf - live.checkedAt
    const distrusted = live.checkedAt <= this.node.distrustedAt
    if (age <= CHECK_INTERVAL && !distrusted) return undefined
    return age > MAX_STALENESS || distrusted ? 'too old' : 'old'
  }

  /** Compares a live session with the store, once for all who ask meanwhile. */
  check(resident: Resident): Promise<void> {
    resident.checking ??= this.compare(resident.live).finally(() => {
      delete resident.checking
    })
    return resident.checking
  }

  /** Compares a live session with the store, and refreshes its expiry if that is due and it is in use. */
  async compare(live: LiveSession): Promise<void> {
    await this.#touchIfDue(live)
    const askedAt = monotonic()
    const stored = await this.options.load(live.id)
    if (live.closed) return
    if (stored) await live.adopt(stored.record, askedAt)
    else await this.options.ongone(live.id, live.record)
  }

  /** Compares sessions with the store, of which many are asked about at once: live ones, and those that have only streams here. */
  async compareAll(residents: readonly Resident[], streamOnly: readonly string[]): Promise<void> {
    await inParts(residents, (part) => this.#comparePart(part))
    await inParts(streamOnly, (part) => this.#compareStreams(part))
  }

  async #comparePart(residents: readonly Resident[]): Promise<void> {
    // Others were closed, or compared for a request, while the parts before this one had their turn.
    const due = residents.filter(({ live, checking }) => !live.closed && !checking)
    if (due.length === 0) return
    const askedAt = monotonic()
    const comparing = this.#look(due.map(({ live }) => live.id))
    const asked = due.map((resident, i) => {
      const { live } = resident
      resident.checking = comparing
        .then(async (standings) => {
          if (live.closed) return
          if (!standings || !this.#isAsKnown(live, standings[i])) return await this.compare(live)
          live.checkedAt = Math.max(live.checkedAt, askedAt)
          await this.#touchIfDue(live)
        })
        .finally(() => {
          delete resident.checking
        })
      return resident.checking
    })
    await Promise.allSettled(asked)
  }

  /** The same for sessions that have only streams here: they end with it, and keep it from expiring. */
  async #compareStreams(ids: readonly string[]): Promise<void> {
    const standings = await this.#look(ids)
    const asked = ids.map(async (id, i) => {
      const standing = standings?.[i]
      const isTouchDue = this.#isTouchDue(this.#streamOnlyTouchedAt.get(id) ?? Number.NEGATIVE_INFINITY)
      if (standing && !isTouchDue && this.options.isHolder(id, standing)) return
      const record = (await this.options.load(id))?.record
      if (!record) return await this.options.ongone(id, undefined)
      if (!isTouchDue) return
      this.#streamOnlyTouchedAt.set(id, monotonic())
      await this.store.touch(id, this.ttlOf(record))
    })
    await Promise.allSettled(asked)
  }

  /** Undefined: the store cannot tell how many sessions stand at once. */
  async #look(ids: readonly string[]): Promise<readonly (SessionStanding | undefined)[] | undefined> {
    return await this.store.look?.(ids)
  }

  #isAsKnown(live: LiveSession, standing: SessionStanding | undefined): boolean {
    return (
      standing?.revision === live.record?.revision && standing !== undefined && this.options.isHolder(live.id, standing)
    )
  }

  async touch(live: LiveSession): Promise<void> {
    if (!live.record) return
    if (await this.store.touch(live.id, this.ttlOf(live.record))) live.touchedAt = monotonic()
  }

  async #touchIfDue(live: LiveSession): Promise<void> {
    const used = live.usedAt > live.touchedAt || live.awaited
    if (used && this.#isTouchDue(live.touchedAt)) await this.touch(live)
  }

  /** Forgets sessions that have no streams here any more. */
  forgetStreams(hasStreams: (id: string) => boolean): void {
    for (const id of this.#streamOnlyTouchedAt.keys()) if (!hasStreams(id)) this.#streamOnlyTouchedAt.delete(id)
  }

  #isTouchDue(touchedAt: number): boolean {
    return monotonic() - touchedAt > Math.min(this.options.idleTtl / 10, MAX_TOUCH_INTERVAL)
  }
}

async function inParts<T>(all: readonly T[], work: (part: readonly T[]) => Promise<void>): Promise<void> {
  // A part that fails is told by the backend, and looked at again soon.
  for (let start = 0; start < all.length; start += MAX_SESSIONS) {
    await work(all.slice(start, start + MAX_SESSIONS)).catch(() => {})
  }
}
