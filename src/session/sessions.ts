/** The sessions that this node has live: made by `initialize`, restored from the store, dropped when idle. */
import { randomUUID } from 'node:crypto'
import type { Journal, SessionRecord } from '../backend/backend.js'
import type { BoundedBackend } from '../backend/bounded.js'
import type { Ask, ClusterNode } from '../cluster/node.js'
import type { HttpRequest } from '../http/message.js'
import { Refusal } from '../http/refusal.js'
import { isSessionId } from '../http/rules.js'
import type { JSONRPCRequest, JSONRPCResponse } from '../jsonrpc.js'
import type {
  CloseReason,
  RequestContext,
  ServerFactory,
  SessionHooks,
  SessionOptions,
  WireOptions,
} from '../options.js'
import type { Streams } from '../stream/streams.js'
import { Deadlines } from './deadlines.js'
import { LiveSession, type LiveSessionHost } from './live.js'
import { defaultPrincipal, hashPrincipal, samePrincipal } from './principal.js'
import { isSafe } from './repeat.js'
import { infoOf, SessionView } from './view.js'

/** A live session is looked up in the store again when it is used and was last seen there this long ago, in ms. */
const CHECK_AFTER = 2000
/** The longest that a live session is served without being sure that the store still has it, in ms. */
const MAX_STALENESS = 5000
/** The longest between two refreshes of the expiry of a session in use, in ms. */
const MAX_TOUCH_INTERVAL = 60 * 60_000

export interface SessionsOptions
  extends Required<Pick<SessionOptions, 'idleTtl' | 'sessionIdGenerator'>>,
    Required<Pick<WireOptions, 'responseMode' | 'upgradeAfter' | 'onerror'>> {
  maxAge: number | undefined
  liveIdle: number
  maxLiveSessions: number
  principal: WireOptions['principal'] | undefined
  mayRepeat: WireOptions['mayRepeat'] | undefined
  hooks: SessionHooks
}

/** A session on its way from the store to life; requests that come meanwhile share the outcome. */
interface Opening {
  loading: Promise<SessionRecord | undefined>
  restoring?: Promise<LiveSession>
  /** Deleted meanwhile: what comes out must not be served. */
  deleted: boolean
}

interface Resident {
  live: LiveSession
  /** The principal that was last found to be the session's; null: none was yet. */
  principal: string | undefined | null
  /** On its way to being compared with the store. */
  checking?: Promise<void>
}

export class Sessions {
  #residents = new Map<string, Resident>()
  #opening = new Map<string, Opening>()
  #sweeper: NodeJS.Timeout
  #host: LiveSessionHost

  constructor(
    private readonly factory: ServerFactory,
    private readonly backend: BoundedBackend,
    node: ClusterNode,
    private readonly streams: Streams,
    private readonly options: SessionsOptions,
  ) {
    this.#host = {
      node,
      streams,
      store: backend.sessions,
      responseMode: options.responseMode,
      upgrades: new Deadlines(options.upgradeAfter),
      mayRepeat: async (request, call) => {
        const safe = await isSafe(request, call)
        return options.mayRepeat ? options.mayRepeat(request, safe) : safe
      },
      ttlOf: (record) => this.#ttlOf(record),
      onidle: (live) => this.#rested(live),
      onclosed: (live) => this.#forget(live),
      onerror: options.onerror,
    }
    node.answer((id, ask) => this.#answer(id, ask))
    this.#sweeper = setInterval(() => this.#sweep(), Math.min(Math.max(options.liveIdle / 4, 100), 10_000))
    this.#sweeper.unref()
  }

  /** Live sessions on this node. */
  get size(): number {
    return this.#residents.size
  }

  /** The live sessions of this node. */
  *live(): IterableIterator<LiveSession> {
    for (const { live } of this.#residents.values()) yield live
  }

  /** A client's `initialize`: the server's answer, and the session if the answer is a result. */
  async create(
    message: JSONRPCRequest,
    request: HttpRequest,
  ): Promise<{ response: JSONRPCResponse; live?: LiveSession }> {
    const { sessions } = this.backend
    const context = contextOf(request)
    const principal = await this.#principalOf(request)
    const id = this.options.sessionIdGenerator()
    if (!isSessionId(id)) throw new Error('sessionIdGenerator must return up to 256 characters of visible ASCII')
    const journal: Journal = { initialize: message.params ?? {}, initialized: false, subscriptions: [] }
    const createdAt = Date.now()
    const protocolVersion = String(journal.initialize.protocolVersion)
    const view = new SessionView(sessions, id, false, principal, { createdAt, protocolVersion, journal })
    const live = new LiveSession(this.#host, id, view)
    let stored = false
    try {
      const session = view
      await this.#host.node.ready()
      const server = await this.factory({ session, restored: false, ...context })
      await live.connect(server)
      const response = await live.call(message.method, message.params, { ...sdkExtra(request) })
      if ('error' in response) {
        await live.dispose()
        return { response }
      }
      const record: SessionRecord = {
        version: 1,
        id,
        revision: 1,
        createdAt,
        principal: hashPrincipal(id, principal),
        protocolVersion: String(response.result.protocolVersion),
        journal,
      }
      stored = true
      if (!(await sessions.create(record, this.#ttlOf(record)))) {
        stored = false
        throw new Error('sessionIdGenerator returned an id that was used before')
      }
      live.record = record
      view.source = live
      await this.options.hooks.onSessionInitialized?.(session, context)
      if (live.closed) throw new Error('the server closed while its session was initialized')
      this.#settle({ live, principal })
      return { response, live }
    } catch (error) {
      await live.dispose().catch(this.options.onerror)
      // A create that timed out may still have happened. Nobody knows the id: what is left, if this fails too, expires.
      if (stored) sessions.delete(id).catch(() => {})
      throw error
    }
  }

  /** The session of a request, if it is live and there is nothing to be found out about it. */
  at(id: string, request: HttpRequest): LiveSession | undefined {
    const resident = this.#residents.get(id)
    if (!resident || this.#doubt(resident.live)) return undefined
    const principal = this.#principalOf(request)
    return typeof principal !== 'object' && isOwner(resident, principal) ? resident.live : undefined
  }

  /**
   * The session of a request, live: from memory, or restored. Throws a {@link Refusal} if there is none for it.
   */
  async find(id: string, request: HttpRequest): Promise<LiveSession> {
    for (;;) {
      const principal = this.#principalOf(request)
      const owner = typeof principal === 'object' ? await principal : principal
      const resident = this.#residents.get(id)
      if (resident) {
        const { live } = resident
        if (!isOwner(resident, owner)) throw new Refusal('sessionNotFound')
        const doubt = this.#doubt(live)
        if (doubt) {
          const checked = this.#check(resident)
          if (doubt === 'too old') await checked
          else checked.catch(() => {})
        }
        if (!live.closed) return live
        continue
      }
      const live = await this.#open(id, owner, request)
      if (!live.closed) return live
    }
  }

  /** Makes a session live before a request asks for it. Whom it belongs to is left for the requests to prove. */
  async restore(id: string, request: HttpRequest): Promise<void> {
    if (!this.#residents.has(id)) await this.#open(id, null, request)
  }

  /** Whether the session exists and is the request's; without making it live. */
  async owns(id: string, request: HttpRequest): Promise<boolean> {
    return (await this.#owned(id, request)) !== undefined
  }

  /** A client's DELETE. */
  async remove(id: string, request: HttpRequest): Promise<void> {
    const record = await this.#owned(id, request)
    if (!record) throw new Refusal('sessionNotFound')
    if (!this.#residents.has(id) && !(await this.#mayRestore(record, request))) throw new Refusal('sessionNotFound')
    await this.#delete(record)
  }

  /** Ends a session for good; false if there was none. */
  async delete(id: string): Promise<boolean> {
    const record = isSessionId(id) ? await this.backend.sessions.load(id) : undefined
    return record !== undefined && (await this.#delete(record))
  }

  /** Another node asks about a session. */
  async #answer(id: string, ask: Ask): Promise<boolean> {
    if (ask.kind === 'notify') {
      await this.notify(ask)
      return true
    }
    const opening = this.#opening.get(id)
    if (ask.kind === 'deleted') {
      if (!opening && !this.#residents.has(id) && this.streams.count(id) === 0) return false
      await this.#end(id, undefined, undefined)
      return true
    }
    // what is on its way to life is told when it is there
    await opening?.restoring?.catch(() => {})
    const resident = this.#residents.get(id)
    if (!resident) return false
    const { live } = resident
    switch (ask.kind) {
      case 'answer':
        return live.answer(ask.message)
      case 'cancel':
        return live.cancel(ask.message)
      case 'notification':
        live.hear(ask.message)
        return true
      case 'updated':
        if ((live.record?.revision ?? 0) < ask.revision) await this.#compare(live)
        return true
      default:
        return false
    }
  }

  /** Tells the sessions at hand (subscribed to `uri`, if given); the log sees to it that each is told once in the cluster. */
  async notify({ id, text, uri }: { id: string; text: string; uri?: string }): Promise<void> {
    const sessions = new Set([...this.#residents.keys(), ...this.streams.sessions()])
    const tell = async (session: string) => {
      const record = this.#residents.get(session)?.live.record ?? (await this.backend.sessions.load(session))
      if (!record?.journal.initialized || (uri !== undefined && !record.journal.subscriptions.includes(uri))) return
      await this.streams.send(session, text, id)
    }
    await Promise.all([...sessions].map((session) => tell(session).catch(this.options.onerror)))
  }

  /** Resolves when no request is running, or after `timeout` ms. */
  async settled(timeout: number): Promise<void> {
    const deadline = Date.now() + timeout
    while (Date.now() < deadline && [...this.live()].some((live) => live.busy)) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await Promise.all([this.streams.flushed(), ...[...this.live()].map((live) => live.flushed())])
  }

  /** Leaves the requests that are running to the nodes that their clients turn to. */
  async handOver(): Promise<void> {
    await Promise.allSettled([...this.live()].map((live) => live.handOver()))
  }

  /** Drops the instances of all sessions, which go on in the store. */
  async close(): Promise<void> {
    clearInterval(this.#sweeper)
    await Promise.allSettled([...this.live()].map((live) => live.dispose()))
  }

  async #owned(id: string, request: HttpRequest): Promise<SessionRecord | undefined> {
    const owner = await this.#principalOf(request)
    const record = isSessionId(id) ? await this.backend.sessions.load(id) : undefined
    return record && samePrincipal(id, record.principal, owner) ? record : undefined
  }

  async #delete(record: SessionRecord): Promise<boolean> {
    const { id } = record
    const existed = await this.backend.sessions.delete(id)
    // The session is gone from here on. A node that cannot be told finds out when it next compares its record with the
    // store; events that stay behind because the log is away expire by themselves.
    await Promise.all([
      this.#host.node.askOthers(id, { kind: 'deleted' }).catch(() => {}),
      this.backend.events.delete(id).catch(() => {}),
      this.#end(id, record, existed ? 'deleted' : undefined),
    ])
    return existed
  }

  async #open(id: string, owner: string | undefined | null, request: HttpRequest): Promise<LiveSession> {
    if (!isSessionId(id)) throw new Refusal('sessionNotFound')
    let opening = this.#opening.get(id)
    if (!opening) {
      opening = { loading: this.backend.sessions.load(id), deleted: false }
      this.#opening.set(id, opening)
      const forget = () => {
        // whoever waited for the record has decided by now whether to restore
        if (!opening?.restoring && this.#opening.get(id) === opening) this.#opening.delete(id)
      }
      opening.loading.then(() => setImmediate(forget), forget)
    }
    const record = await opening.loading
    if (!record) throw new Refusal('sessionNotFound')
    if (owner !== null && !samePrincipal(id, record.principal, owner)) throw new Refusal('sessionNotFound')
    if (!opening.restoring) {
      const started = opening
      opening.restoring = this.#restore(record, owner, request, started).finally(() => {
        if (this.#opening.get(id) === started) this.#opening.delete(id)
      })
    }
    return opening.restoring
  }

  async #restore(
    loaded: SessionRecord,
    principal: string | undefined | null,
    request: HttpRequest,
    opening: Opening,
  ): Promise<LiveSession> {
    const { sessions } = this.backend
    const { id } = loaded
    if (!(await this.#mayRestore(loaded, request))) throw new Refusal('sessionNotFound')
    await this.#host.node.ready()
    const view = new SessionView(sessions, id, true, principal ?? undefined, loaded)
    const live = new LiveSession(this.#host, id, view)
    try {
      // From here on a change made elsewhere is told; one made since the record was loaded is seen by loading it again.
      const record = await sessions.load(id)
      if (!record || opening.deleted) throw new Refusal('sessionNotFound')
      live.record = record
      view.source = live
      const context = contextOf(request)
      const server = await this.factory({ session: view, restored: true, ...context })
      await live.connect(server)
      await live.replay(record.journal, sdkExtra(request))
      await this.options.hooks.onSessionRestored?.(view, context)
      if (opening.deleted) throw new Refusal('sessionNotFound')
      if (live.closed) throw new Error('the server closed while its session was restored')
      this.#settle({ live, principal })
      sessions.touch(id, this.#ttlOf(record)).catch(() => {})
      return live
    } catch (error) {
      await (opening.deleted ? live.end() : live.dispose()).catch(this.options.onerror)
      throw error
    }
  }

  async #mayRestore(record: SessionRecord, request: HttpRequest): Promise<boolean> {
    const { authorizeRestore } = this.options.hooks
    if (!authorizeRestore) return true
    return await authorizeRestore.call(this.options.hooks, infoOf(record), contextOf(request))
  }

  /** Whether what is known of a live session should (`old`) or must (`too old`) be compared with the store. */
  #doubt(live: LiveSession): 'old' | 'too old' | undefined {
    const age = Date.now() - live.checkedAt
    if (age <= CHECK_AFTER && live.checkedAt > this.#host.node.distrustedAt) return undefined
    return age > MAX_STALENESS || live.checkedAt <= this.#host.node.distrustedAt ? 'too old' : 'old'
  }

  /** Compares a live session with the store, and refreshes its expiry when that is due. */
  #check(resident: Resident): Promise<void> {
    resident.checking ??= this.#compare(resident.live).finally(() => {
      delete resident.checking
    })
    return resident.checking
  }

  async #compare(live: LiveSession): Promise<void> {
    const { sessions } = this.backend
    const due = Date.now() - live.touchedAt > Math.min(this.options.idleTtl / 10, MAX_TOUCH_INTERVAL)
    if (due && live.record && (await sessions.touch(live.id, this.#ttlOf(live.record)))) live.touchedAt = Date.now()
    const record = await sessions.load(live.id)
    if (live.closed) return
    if (record) await live.adopt(record)
    else await this.#end(live.id, live.record, 'gone')
  }

  async #end(id: string, record: SessionRecord | undefined, reason: CloseReason | undefined): Promise<void> {
    const opening = this.#opening.get(id)
    if (opening) opening.deleted = true
    const resident = this.#residents.get(id)
    if (resident) {
      this.#residents.delete(id)
      await resident.live.end()
    }
    this.streams.disconnectAll(id)
    if (record && reason) await this.options.hooks.onSessionClosed?.(infoOf(record), reason)
  }

  #settle(resident: Resident): void {
    const { live } = resident
    this.#residents.set(live.id, resident)
    if (this.#residents.size > this.options.maxLiveSessions) this.#shrink()
  }

  #rested(live: LiveSession): void {
    const resident = this.#residents.get(live.id)
    if (resident?.live !== live) return
    // least recently used first
    this.#residents.delete(live.id)
    this.#residents.set(live.id, resident)
    if (this.options.liveIdle === 0 && this.#isIdle(live)) this.#evict(live)
    else if (this.#residents.size > this.options.maxLiveSessions) this.#shrink()
  }

  #forget(live: LiveSession): void {
    const resident = this.#residents.get(live.id)
    if (resident?.live !== live) return
    this.#residents.delete(live.id)
  }

  #isIdle(live: LiveSession): boolean {
    return !live.busy && this.streams.count(live.id) === 0
  }

  #evict(live: LiveSession): void {
    this.#forget(live)
    live.dispose().catch(this.options.onerror)
  }

  #shrink(): void {
    let excess = this.#residents.size - this.options.maxLiveSessions
    for (const { live } of this.#residents.values()) {
      if (excess <= 0) return
      if (!this.#isIdle(live)) continue
      this.#evict(live)
      excess--
    }
  }

  #sweep(): void {
    const now = Date.now()
    for (const resident of [...this.#residents.values()]) {
      const { live } = resident
      if (!this.#isIdle(live)) {
        live.usedAt = now
        if (now - live.checkedAt > CHECK_AFTER) this.#check(resident).catch(() => {})
      } else if (now - live.usedAt >= this.options.liveIdle) this.#evict(live)
    }
  }

  #ttlOf(record: SessionRecord): number {
    const { idleTtl, maxAge } = this.options
    return maxAge === undefined ? idleTtl : Math.max(1, Math.min(idleTtl, record.createdAt + maxAge - Date.now()))
  }

  #principalOf(request: HttpRequest): string | undefined | Promise<string | undefined> {
    const { principal } = this.options
    return principal ? principal(request.authInfo, request.request) : defaultPrincipal(request.authInfo)
  }
}

export const DEFAULT_SESSION_ID_GENERATOR: () => string = randomUUID

/** Hashes only what was not compared just before. */
function isOwner(resident: Resident, principal: string | undefined): boolean {
  if (principal === resident.principal) return true
  const { id, record, view } = resident.live
  if (!record || !samePrincipal(id, record.principal, principal)) return false
  resident.principal = principal
  view.principal = principal
  return true
}

function contextOf(request: HttpRequest): RequestContext {
  return { authInfo: request.authInfo, request: request.request }
}

function sdkExtra(request: HttpRequest) {
  const { authInfo, requestInfo } = request
  return { requestInfo, request: request.request, ...(authInfo && { authInfo }) }
}
