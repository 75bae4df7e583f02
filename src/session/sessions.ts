/** The sessions that this node has live: found for each request, restored when they are not, dropped when idle. */
import { randomUUID } from 'node:crypto'
import type { SessionRecord } from '../backend/backend.js'
import type { BoundedBackend } from '../backend/bounded.js'
import type { Answer, Ask, AskListener, AskOptions, ClusterNode, Used } from '../cluster/node.js'
import type { SessionOptions, WireOptions } from '../options.js'
import type { Streams } from '../stream/streams.js'
import { monotonic } from '../util/clock.js'
import type { JSONRPCRequest } from '../wire/jsonrpc.js'
import type { HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { isSessionId } from '../wire/rules.js'
import { type Birth, check, contextOf, type Initialized, initialize, type Midwife, restore } from './birth.js'
import { Deadlines } from './deadlines.js'
import type { LiveSession } from './live.js'
import { samePrincipal } from './principal.js'
import { isSafe } from './repeat.js'
import { type Resident, Residents } from './residents.js'
import type { CloseReason, ServerFactory, SessionHooks } from './session.js'
import { infoOf } from './view.js'

/** A live session in use is compared with the store this often, in ms. */
const CHECK_INTERVAL = 2000
/** The longest that a live session is served without being sure that the store still has it, in ms. */
const MAX_STALENESS = 5000
/** The longest between two refreshes of the expiry of a session in use, in ms. */
const MAX_TOUCH_INTERVAL = 60 * 60_000
/** How often a request may find that the instance restored for it has closed at once. */
const MAX_RESTORES = 3
/** How long the servers may take to close, in ms. */
const CLOSE_PATIENCE = 5000

/** Whom a request comes from; undefined: anonymous. */
export type Principal = string | undefined

export interface SessionsOptions
  extends Required<Pick<SessionOptions, 'idleTtl' | 'sessionIdGenerator'>>,
    Required<Pick<WireOptions, 'responseMode' | 'upgradeAfter' | 'onerror'>> {
  maxAge: number | undefined
  liveIdle: number
  maxLiveSessions: number
  mayRepeat: WireOptions['mayRepeat'] | undefined
  hooks: SessionHooks
}

/** Stands for the principal where no request has yet proved whom the session belongs to. */
const UNPROVEN = Symbol('unproven')
type Proof = Principal | typeof UNPROVEN

/** A session on its way from the store to life; requests that come meanwhile share the outcome. */
interface Opening extends Birth {
  loading: Promise<SessionRecord | undefined>
  restoring?: Promise<LiveSession>
}

export class Sessions {
  #residents: Residents<Proof>
  #opening = new Map<string, Opening>()
  #initializing = new Map<string, Birth>()
  #sweeper: NodeJS.Timeout | undefined
  #listener: AskListener = (id, ask) => this.#answer(id, ask)
  #unlisten: (() => void) | undefined
  /** When the expiry of a session was refreshed that has streams here, and no instance. */
  #touched = new Map<string, number>()
  #midwife: Midwife
  #closed = false

  constructor(
    factory: ServerFactory,
    private readonly backend: BoundedBackend,
    private readonly node: ClusterNode,
    private readonly streams: Streams,
    private readonly options: SessionsOptions,
  ) {
    const { hooks, onerror, responseMode, upgradeAfter, mayRepeat, liveIdle, maxLiveSessions } = options
    this.#residents = new Residents({
      liveIdle,
      maxLiveSessions,
      isIdle: (live) => !live.busy && streams.count(live.id) === 0,
      onforget: (id) => streams.forget(id),
    })
    const host: Midwife['host'] = {
      node,
      askOthers: (id, ask, options) => this.askOthers(id, ask, options),
      streams,
      store: backend.sessions,
      responseMode,
      upgrades: new Deadlines(upgradeAfter, onerror),
      mayRepeat: async (request, call) => {
        const safe = await isSafe(request, call)
        return mayRepeat ? mayRepeat(request, safe) : safe
      },
      ttlOf: (record) => this.#ttlOf(record),
      onrest: (live) => this.#residents.rested(live.id),
      onclosed: (live) => this.#residents.forget(live),
      onerror,
    }
    this.#midwife = { host, factory, hooks }
    streams.onrest = (id) => this.#residents.rested(id)
  }

  /** Live sessions on this node. */
  get size(): number {
    return this.#residents.size
  }

  /** A client's `initialize`: the server's answer, and the session if the answer is a result. */
  async create(message: JSONRPCRequest, request: HttpRequest, principal: Principal): Promise<Initialized> {
    const id = this.options.sessionIdGenerator()
    this.#listen()
    const birth: Birth = { stopped: this.#closed ? 'closing' : undefined }
    this.#initializing.set(id, birth)
    try {
      const initialized = await initialize(this.#midwife, id, message, request, principal)
      if (initialized.live) this.#settle({ live: initialized.live, principal }, birth)
      return initialized
    } finally {
      if (this.#initializing.get(id) === birth) this.#initializing.delete(id)
    }
  }

  /** The session of a request, if it is live and there is nothing to be found out about it. */
  at(id: string, principal: Principal): LiveSession | undefined {
    const resident = this.#residents.get(id)
    return resident && !this.#doubt(resident.live) && isOwner(resident, principal) ? resident.live : undefined
  }

  /**
   * The session of a request, live: from memory, or restored. It may be gone again by the time the caller goes on.
   *
   * @throws Refusal if the request has no session.
   */
  async find(id: string, principal: Principal, request: HttpRequest): Promise<LiveSession> {
    for (let restores = 0; ; ) {
      const resident = this.#residents.get(id)
      if (resident) {
        if (!isOwner(resident, principal)) throw new Refusal('sessionNotFound')
        const doubt = this.#doubt(resident.live)
        if (!doubt) return resident.live
        const checked = this.#check(resident)
        if (doubt === 'old') {
          checked.catch(() => {})
          return resident.live
        }
        await checked
      } else {
        if (restores++ === MAX_RESTORES) throw new Refusal('unavailable')
        await this.#open(id, principal, request)
      }
    }
  }

  /** Makes a session live before a request asks for it. Whom it belongs to is left for the requests to prove. */
  async restore(id: string, request: HttpRequest): Promise<void> {
    if (!this.#residents.has(id)) await this.#open(id, UNPROVEN, request)
  }

  /** Whether the session exists and belongs to the principal; without making it live. */
  async owns(id: string, principal: Principal): Promise<boolean> {
    return (await this.#owned(id, principal)) !== undefined
  }

  /** A client's DELETE. */
  async remove(id: string, principal: Principal, request: HttpRequest): Promise<void> {
    const record = await this.#owned(id, principal)
    if (!record) throw new Refusal('sessionNotFound')
    if (!this.#residents.has(id) && !(await this.#mayRestore(record, request))) throw new Refusal('sessionNotFound')
    if (!(await this.#delete(record))) throw new Refusal('sessionNotFound')
  }

  /** Ends a session for good; false if there was none. */
  async delete(id: string): Promise<boolean> {
    const record = isSessionId(id) ? await this.backend.sessions.load(id) : undefined
    return record !== undefined && (await this.#delete(record))
  }

  /** Tells the sessions at hand (subscribed to `uri`, if given); the log sees to it that each is told once in the cluster. */
  async notify({ id, text, uri }: { id: string; text: string; uri?: string }): Promise<void> {
    const sessions = new Set([...this.#residents.ids(), ...this.streams.sessions()])
    const tell = async (session: string) => {
      const record = this.#residents.get(session)?.live.record ?? (await this.backend.sessions.load(session))
      if (!record?.journal.initialized || (uri !== undefined && !record.journal.subscriptions.includes(uri))) return
      await this.streams.send(session, text, id)
    }
    await Promise.all([...sessions].map((session) => tell(session).catch(this.options.onerror)))
  }

  /** Asks whoever else may have the session at hand. */
  askOthers(id: string, ask: Ask, options?: AskOptions): Promise<Answer[]> {
    return this.node.askOthers(id, ask, { ...options, except: this.#listener })
  }

  /** Resolves when no request is running, or after `timeout` ms. */
  async settled(timeout: number): Promise<void> {
    const deadline = monotonic() + timeout
    while (monotonic() < deadline && this.#live().some((live) => live.busy)) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await Promise.all([this.streams.flushed(), ...this.#live().map((live) => live.flushed())])
  }

  /** Leaves the requests that are running to the nodes that their clients turn to. */
  async handOver(): Promise<void> {
    await Promise.allSettled(this.#live().map((live) => live.handOver()))
  }

  /** Drops the instances of all sessions, which go on in the store. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweeper)
    this.#unlisten?.()
    for (const birth of [...this.#opening.values(), ...this.#initializing.values()]) birth.stopped ??= 'closing'
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_PATIENCE)
    })
    await Promise.race([Promise.all(this.#live().map((live) => live.dispose())), late])
    clearTimeout(timer)
  }

  /** Not before there is something to be asked about, so that a transport that never gets a session can be collected. */
  #listen(): void {
    if (!this.#closed) this.#unlisten ??= this.node.answer(this.#listener)
  }

  #live(): LiveSession[] {
    return this.#residents.all().map(({ live }) => live)
  }

  async #open(id: string, principal: Proof, request: HttpRequest): Promise<LiveSession> {
    if (!isSessionId(id)) throw new Refusal('sessionNotFound')
    this.#listen()
    let opening = this.#opening.get(id)
    if (!opening) {
      opening = { loading: this.backend.sessions.load(id), stopped: this.#closed ? 'closing' : undefined }
      this.#opening.set(id, opening)
      const forget = () => {
        if (!opening?.restoring && this.#opening.get(id) === opening) this.#opening.delete(id)
      }
      // whoever waits for a record has decided a moment later whether to restore; that there is none holds for those who wait
      opening.loading.then((record) => (record ? setImmediate(forget) : forget()), forget)
    }
    const record = await opening.loading
    if (!record) throw new Refusal('sessionNotFound')
    if (principal !== UNPROVEN && !samePrincipal(id, record.principal, principal)) throw new Refusal('sessionNotFound')
    if (!opening.restoring) {
      const started = opening
      opening.restoring = this.#restore(record, principal, request, started).finally(() => {
        if (this.#opening.get(id) === started) this.#opening.delete(id)
      })
    }
    return opening.restoring
  }

  async #restore(record: SessionRecord, principal: Proof, request: HttpRequest, birth: Birth): Promise<LiveSession> {
    if (!(await this.#mayRestore(record, request))) throw new Refusal('sessionNotFound')
    const known = principal === UNPROVEN ? undefined : principal
    const live = await restore(this.#midwife, record, request, known, birth)
    this.#settle({ live, principal }, birth)
    this.#touch(live).catch(() => {})
    return live
  }

  async #mayRestore(record: SessionRecord, request: HttpRequest): Promise<boolean> {
    const { hooks } = this.options
    return (await hooks.authorizeRestore?.(infoOf(record), contextOf(request))) ?? true
  }

  async #owned(id: string, principal: Principal): Promise<SessionRecord | undefined> {
    const record = isSessionId(id) ? await this.backend.sessions.load(id) : undefined
    return record && samePrincipal(id, record.principal, principal) ? record : undefined
  }

  /** False: somebody else has deleted it meanwhile. */
  async #delete(record: SessionRecord): Promise<boolean> {
    const { id } = record
    const existed = await this.backend.sessions.delete(id)
    // The session is gone from here on. A node that cannot be told finds out when it next compares its record with the
    // store; events that stay behind because the log is away expire by themselves.
    await Promise.all([
      this.askOthers(id, { kind: 'deleted' }).catch(() => {}),
      this.backend.events.delete(id).catch(() => {}),
      this.#end(id, record, existed ? 'deleted' : undefined),
    ])
    return existed
  }

  /** Whether what is known of a live session should (`old`) or must (`too old`) be compared with the store. */
  #doubt(live: LiveSession): 'old' | 'too old' | undefined {
    const age = monotonic() - live.checkedAt
    const distrusted = live.checkedAt <= this.node.distrustedAt
    if (age <= CHECK_INTERVAL && !distrusted) return undefined
    return age > MAX_STALENESS || distrusted ? 'too old' : 'old'
  }

  /** Compares a live session with the store, and refreshes its expiry when that is due. */
  #check(resident: Resident<Proof>): Promise<void> {
    resident.checking ??= this.#compare(resident.live).finally(() => {
      delete resident.checking
    })
    return resident.checking
  }

  async #compare(live: LiveSession): Promise<void> {
    if (this.#isTouchDue(live.touchedAt)) await this.#touch(live)
    const record = await this.backend.sessions.load(live.id)
    if (live.closed) return
    if (record) await live.adopt(record)
    else await this.#end(live.id, live.record, 'gone')
  }

  #isTouchDue(touchedAt: number): boolean {
    return monotonic() - touchedAt > Math.min(this.options.idleTtl / 10, MAX_TOUCH_INTERVAL)
  }

  async #touch(live: LiveSession): Promise<void> {
    if (!live.record) return
    if (await this.backend.sessions.touch(live.id, this.#ttlOf(live.record))) live.touchedAt = monotonic()
  }

  /** Ends whatever of a session is on this node. */
  async #end(id: string, record: SessionRecord | undefined, reason: CloseReason | undefined): Promise<void> {
    for (const birth of [this.#opening.get(id), this.#initializing.get(id)]) if (birth) birth.stopped = 'deleted'
    const resident = this.#residents.remove(id)
    try {
      if (record && reason) await this.options.hooks.onSessionClosed?.(infoOf(record), reason)
    } finally {
      resident?.live.end()
      this.streams.disconnectAll(id)
    }
  }

  /** Another node asks about a session. */
  async #answer(id: string, ask: Ask): Promise<Used> {
    if (ask.kind === 'notify') {
      await this.notify(ask)
      return { used: true }
    }
    if (ask.kind === 'deleted') {
      await this.#end(id, undefined, undefined)
      return { used: true }
    }
    // what is on its way to life is told when it is there
    await this.#opening.get(id)?.restoring?.catch(() => {})
    const live = this.#residents.get(id)?.live
    if (!live) return { used: false }
    switch (ask.kind) {
      case 'answer':
        return { used: live.answer(ask.message) }
      case 'cancel':
        return { used: live.cancel(ask.message) }
      case 'notification':
        live.hear(ask.message)
        return { used: true }
      case 'updated':
        if ((live.record?.revision ?? 0) < ask.revision) await this.#compare(live)
        return { used: true }
      default:
        return { used: false }
    }
  }

  #settle(resident: Resident<Proof>, birth: Birth): void {
    const { live } = resident
    check(live, birth)
    this.#residents.add(resident)
    live.publish()
    this.#sweepFromNowOn()
  }

  #sweepFromNowOn(): void {
    if (this.#sweeper || this.#closed) return
    const interval = Math.min(Math.max(this.options.liveIdle / 4, 100), CHECK_INTERVAL)
    this.#sweeper = setInterval(() => this.#sweep(), interval)
    this.#sweeper.unref()
  }

  #sweep(): void {
    if (this.#residents.size === 0 && this.streams.open === 0) {
      clearInterval(this.#sweeper)
      this.#sweeper = undefined
    }
    this.#residents.sweep((busy) => {
      if (this.#doubt(busy.live)) this.#check(busy).catch(() => {})
    })
    for (const id of this.#touched.keys()) if (this.streams.count(id) === 0) this.#touched.delete(id)
    for (const id of this.streams.sessions()) if (!this.#residents.has(id)) this.#sweepStreams(id).catch(() => {})
  }

  /** Streams stay open when their instance is gone; they too end with the session, and keep it from expiring. */
  async #sweepStreams(id: string): Promise<void> {
    const record = await this.backend.sessions.load(id)
    if (!record) return await this.#end(id, undefined, undefined)
    if (!this.#isTouchDue(this.#touched.get(id) ?? Number.NEGATIVE_INFINITY)) return
    this.#touched.set(id, monotonic())
    await this.backend.sessions.touch(id, this.#ttlOf(record))
  }

  #ttlOf(record: SessionRecord): number {
    const { idleTtl, maxAge } = this.options
    return maxAge === undefined ? idleTtl : Math.max(1, Math.min(idleTtl, record.createdAt + maxAge - Date.now()))
  }
}

export const DEFAULT_SESSION_ID_GENERATOR: () => string = randomUUID

/** Hashes only what was not compared just before. */
function isOwner(resident: Resident<Proof>, principal: Principal): boolean {
  if (principal === resident.principal) return true
  const { id, record, view } = resident.live
  if (!record || !samePrincipal(id, record.principal, principal)) return false
  resident.principal = principal
  view.principal = principal
  return true
}
