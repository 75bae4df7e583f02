/** The sessions of this node that are on their way to life: being initialized, or restored once for all who wait. */
import type { SessionRecord, StoredSession } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'
import type { JSONRPCRequest } from '../wire/jsonrpc.js'
import type { Caller, HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import type { Build, Initialized, SessionBuilder } from './builder.js'
import type { LiveSession } from './live.js'
import type { LookUps } from './look-ups.js'
import type { Place } from './places.js'
import { type ProvenPrincipal, samePrincipal, UNPROVEN } from './principal.js'

/** A session on its way from the store to life; requests that come meanwhile share the outcome. */
interface Opening extends Build {
  loading: Promise<StoredSession | undefined>
  /** When the store was asked, by the monotonic clock. */
  loadedAt: number
  restoring?: Promise<LiveSession>
  /** How many requests wait for it. */
  waiting: number
}

export interface BuildingHost {
  readonly lookUps: LookUps
  /** The session as it is stored; from before that, this node holds it, and hears what happens to it. */
  load(id: string): Promise<StoredSession | undefined>
  /** Whether the session is live here. */
  isLive(id: string): boolean
  /** Whether this request may restore the session. */
  mayRestore(record: SessionRecord, request: HttpRequest): Promise<boolean>
  /** A place for a session that is to be built. @throws Refusal if all are in use. */
  take(principal: ProvenPrincipal): Place
  /** A session has become live. */
  onbuilt(live: LiveSession): void
  /** Nothing is being built of a session any more. */
  onended(id: string): void
}

export class Building {
  readonly #opening = new Map<string, Opening>()
  readonly #initializing = new Map<string, Build>()
  #closed = false

  constructor(
    private readonly builder: SessionBuilder,
    private readonly host: BuildingHost,
  ) {}

  get size(): number {
    return this.#opening.size + this.#initializing.size
  }

  has(id: string): boolean {
    return this.#opening.has(id) || this.#initializing.has(id)
  }

  /** A client's `initialize`. */
  async initialize(id: string, message: JSONRPCRequest, caller: Caller): Promise<Initialized> {
    const place = this.host.take(caller.principal)
    const build: Build = { stopped: this.#closed ? 'closing' : undefined, newest: 0 }
    this.#initializing.set(id, build)
    try {
      const initialized = await this.builder.initialize(id, message, caller, build, place)
      if (initialized.live) this.host.onbuilt(initialized.live)
      else place.free()
      return initialized
    } catch (error) {
      place.free()
      throw error
    } finally {
      if (this.#initializing.get(id) === build) this.#initializing.delete(id)
      this.host.onended(id)
    }
  }

  /**
   * Makes a stored session live. It may be gone again by the time the caller goes on.
   *
   * @throws Refusal if the request has no such session.
   */
  async open(id: string, principal: ProvenPrincipal, request: HttpRequest): Promise<void> {
    const askedAt = monotonic()
    let opening: Opening | undefined
    const load = () => {
      this.#leave(id, opening)
      opening = this.#opening.get(id) ?? this.#load(id)
      opening.waiting++
      return opening
    }
    try {
      const record = await this.host.lookUps.find(id, principal, async () => {
        const { loading, loadedAt } = load()
        // The session may have been stored since the store was asked by a request that came before this one.
        const stored = (await loading) ?? (loadedAt < askedAt ? await load().loading : undefined)
        const isTheirs = stored && (principal === UNPROVEN || samePrincipal(id, stored.record.principal, principal))
        return isTheirs ? stored.record : undefined
      })
      if (!record) throw new Refusal('sessionNotFound')
      // Each request is asked about by itself: what one may not, another one may.
      if (!(await this.host.mayRestore(record, request))) throw new Refusal('sessionNotFound')
      // While it was asked, another request may have had the session restored, and it may be gone again.
      if (this.host.isLive(id)) return
      const current = this.#opening.get(id) ?? this.#load(id)
      current.restoring ??= this.#restore(id, principal, request, current)
      await current.restoring
    } finally {
      this.#leave(id, opening)
    }
  }

  /** Resolves when a restore that is under way has ended, well or badly. */
  async restored(id: string): Promise<void> {
    await this.#opening.get(id)?.restoring?.catch(() => {})
  }

  isInitializing(id: string): boolean {
    return this.#initializing.has(id)
  }

  /** A record has a new revision; false: nothing is being built that would have to know. */
  updated(id: string, revision: number): boolean {
    const builds = this.#builds(id)
    for (const build of builds) build.newest = Math.max(build.newest, revision)
    return builds.length > 0
  }

  /** The session was deleted: what is being built must not be served. */
  stop(id: string): void {
    for (const build of this.#builds(id)) build.stopped = 'deleted'
  }

  /** The node is closing. */
  close(): void {
    this.#closed = true
    for (const build of [...this.#opening.values(), ...this.#initializing.values()]) build.stopped ??= 'closing'
  }

  #builds(id: string): Build[] {
    return [this.#opening.get(id), this.#initializing.get(id)].filter((build) => build !== undefined)
  }

  #load(id: string): Opening {
    const stopped = this.#closed ? 'closing' : undefined
    const loading = Promise.resolve(undefined)
    const opening: Opening = { loading, loadedAt: monotonic(), waiting: 0, stopped, newest: 0 }
    this.#opening.set(id, opening)
    opening.loading = this.host.load(id)
    // Whoever comes when it is known that there is no record asks the store again.
    const forget = () => this.#forget(id, opening)
    opening.loading.then((session) => session ?? forget(), forget)
    return opening
  }

  async #restore(id: string, principal: ProvenPrincipal, request: HttpRequest, opening: Opening): Promise<LiveSession> {
    let place: Place | undefined
    try {
      const session = await opening.loading
      if (!session) throw new Refusal('sessionNotFound')
      place = this.host.take(principal)
      const live = await this.builder.restore(session.record, request, principal, opening, place)
      this.host.onbuilt(live)
      return live
    } catch (error) {
      place?.free()
      throw error
    } finally {
      // Whoever comes from now on finds it live, or it is gone again and must be restored anew.
      this.#forget(id, opening)
    }
  }

  /** A request does not wait for it any more. */
  #leave(id: string, opening: Opening | undefined): void {
    if (!opening) return
    opening.waiting--
    if (opening.waiting === 0) this.#forget(id, opening)
  }

  #forget(id: string, opening: Opening): void {
    if (this.#opening.get(id) !== opening) return
    this.#opening.delete(id)
    this.host.onended(id)
  }
}
