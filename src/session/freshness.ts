/** How sure this node is that the sessions it has are still in the store as it knows them; and that they do not expire there. */
import type { SessionRecord, SessionStore, StoredSession } from '../backend/backend.js'
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
  /** The session as it is stored, which this node holds. */
  load(id: string): Promise<StoredSession | undefined>
}

export class Freshness {
  /** When the expiry of a session was refreshed that has only streams here, by session. */
  readonly #streamOnlyTouchedAt = new Map<string, number>()

  constructor(
    private readonly node: ClusterNode,
    private readonly store: Pick<SessionStore, 'touch'>,
    private readonly options: FreshnessOptions,
  ) {}

  /** Time to live of a record from now, in ms. */
  ttlOf(record: SessionRecord): number {
    const { idleTtl, maxAge } = this.options
    return maxAge === undefined ? idleTtl : Math.max(1, Math.min(idleTtl, record.createdAt + maxAge - Date.now()))
  }

  /** Whether what is known of a live session should (`old`) or must (`too old`) be compared with the store. */
  doubt(live: LiveSession): 'old' | 'too old' | undefined {
    const age = monotonic() - live.checkedAt
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
    const used = live.usedAt > live.touchedAt || live.awaited
    if (used && this.#isTouchDue(live.touchedAt)) await this.touch(live)
    const stored = await this.options.load(live.id)
    if (live.closed) return
    if (stored) await live.adopt(stored.record)
    else await this.options.ongone(live.id, live.record)
  }

  async touch(live: LiveSession): Promise<void> {
    if (!live.record) return
    if (await this.store.touch(live.id, this.ttlOf(live.record))) live.touchedAt = monotonic()
  }

  /** The same for a session that has only streams here: they end with it, and keep it from expiring. */
  async compareStreams(id: string): Promise<void> {
    const record = (await this.options.load(id))?.record
    if (!record) return await this.options.ongone(id, undefined)
    if (!this.#isTouchDue(this.#streamOnlyTouchedAt.get(id) ?? Number.NEGATIVE_INFINITY)) return
    this.#streamOnlyTouchedAt.set(id, monotonic())
    await this.store.touch(id, this.ttlOf(record))
  }

  /** Forgets sessions that have no streams here any more. */
  forgetStreams(hasStreams: (id: string) => boolean): void {
    for (const id of this.#streamOnlyTouchedAt.keys()) if (!hasStreams(id)) this.#streamOnlyTouchedAt.delete(id)
  }

  #isTouchDue(touchedAt: number): boolean {
    return monotonic() - touchedAt > Math.min(this.options.idleTtl / 10, MAX_TOUCH_INTERVAL)
  }
}
