/** The sessions that this node has live: found for each request, restored when they are not, dropped when idle. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionRecord, StoredSession } from '../backend/backend.js'
import { type BoundedBackend, Unavailable } from '../backend/bounded.js'
import type { Cluster } from '../cluster/cluster.js'
import { nodeOf } from '../cluster/node.js'
import type { Streams } from '../stream/streams.js'
import type { UnfinishedStream } from '../stream/unfinished.js'
import { monotonic } from '../util/clock.js'
import { Interval } from '../util/interval.js'
import { within } from '../util/within.js'
import type { JSONRPCRequest } from '../wire/jsonrpc.js'
import type { Limits } from '../wire/limits.js'
import type { Caller, HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { Broadcasts } from './broadcasts.js'
import { contextOf, type Initialized, SessionBuilder } from './builder.js'
import { Building } from './building.js'
import { Deadlines } from './deadlines.js'
import type { ResponseMode } from './exchange.js'
import { CHECK_INTERVAL, Freshness } from './freshness.js'
import { Holdings } from './holdings.js'
import type { LiveSession, LiveSessionHost } from './live.js'
import { LookUps, type LookUpsOptions } from './look-ups.js'
import { type Principal, type ProvenPrincipal, UNPROVEN } from './principal.js'
import { checkRate } from './rate-limit.js'
import { belongs, type Resident, Residents } from './residents.js'
import { type Broadcast, type RoutedSession, Routing } from './routing.js'
import { isSafe } from './safe-to-repeat.js'
import type { CloseReason, ServerFactory, SessionHooks } from './session.js'
import { StoredSessions } from './stored-sessions.js'
import { infoOf } from './view.js'

/** How often a request may find that the instance restored for it has closed at once. */
const MAX_RESTORES = 3
/** How long the servers may take to close, in ms. */
const CLOSE_PATIENCE = 5000
/** How long a node that ends waits for the event log, in ms; what does not need the log goes out before that is over. */
const LEAVE_PATIENCE = 2500
/** How long it is tried to finish an unfinished stream while the backend is away, and how often, in ms. */
const FINISH_PATIENCE = 30_000
const FINISH_RETRY_INTERVAL = 250

export interface SessionsOptions extends LookUpsOptions {
  idleTtl: number
  maxAge: number | undefined
  responseMode: ResponseMode
  upgradeAfter: number
  silence: number
  limits: Readonly<Limits>
  liveIdle: number
  maxLiveSessions: number
  mayRepeat: ((request: { method: string; params?: JSONRPCRequest['params'] }, safe: boolean) => boolean) | undefined
  hooks: SessionHooks
  onerror(error: Error): void
}

export class Sessions {
  /** What needs no instance here. */
  readonly stored: StoredSessions
  readonly #lookUps: LookUps
  readonly #residents: Residents
  readonly #freshness: Freshness
  readonly #routing: Routing
  readonly #holdings: Holdings
  readonly #broadcasts: Broadcasts
  #unlisten: (() => void) | undefined
  readonly #building: Building
  readonly #sweeper: Interval
  /** The comparison of this node's sessions with the store that is under way. */
  #comparing: Promise<void> | undefined
  #left = false
  #closed = false

  constructor(
    factory: ServerFactory,
    private readonly backend: BoundedBackend,
    cluster: Cluster,
    private readonly streams: Streams,
    private readonly options: SessionsOptions,
  ) {
    const { hooks, onerror, responseMode, upgradeAfter, silence, limits, liveIdle, maxLiveSessions } = options
    const { node } = cluster
    const { connections } = streams
    this.#residents = new Residents({
      liveIdle,
      maxLiveSessions,
      limits,
      isIdle: (live) => connections.count(live.id) === 0 && !live.awaited,
    })
    const isLive = (id: string) => this.#residents.has(id)
    this.#lookUps = new LookUps({ store: backend.sessions, isLive }, options)
    this.#holdings = new Holdings({
      node,
      store: backend.sessions,
      isHeld: (id) => this.#residents.has(id) || this.#building.has(id) || connections.count(id) > 0,
      listen: (id) => this.#routing.listen(id),
    })
    const load = (id: string) => this.#load(id)
    this.#broadcasts = new Broadcasts({
      node,
      store: backend.sessions,
      log: backend.events,
      residents: this.#residents,
      holdings: this.#holdings,
      streams,
      onerror,
    })
    this.#freshness = new Freshness(node, backend.sessions, {
      ...options,
      load,
      isHolder: (id, held) => this.#holdings.isHolder(id, held),
      ongone: (id, record) => this.#end(id, record, record && 'gone'),
    })
    this.#routing = new Routing(cluster, {
      routed: (id) => this.#routed(id),
      updated: (id, revision) => this.#building.updated(id, revision),
      deleted: (id) => {
        cluster.deleted.add(id)
        return this.#end(id, undefined, undefined)
      },
      broadcast: (broadcast) => this.#broadcasts.tell(broadcast),
      held: (id) => backend.sessions.load(id),
      others: (id, held) => this.#holdings.others(id, held),
    })
    const mayRestore = (record: SessionRecord, request: HttpRequest) => this.#mayRestore(record, request)
    this.stored = new StoredSessions({
      backend,
      routing: this.#routing,
      lookUps: this.#lookUps,
      isLive,
      mayRestore,
      touch: (record) => void backend.sessions.touch(record.id, this.#freshness.ttlOf(record)).catch(() => {}),
      ondeleted: (id, record, by) => this.#end(id, record, by === 'this node' ? 'deleted' : undefined),
    })
    const host: LiveSessionHost = {
      nodeId: node.id,
      routing: this.#routing,
      streams,
      store: backend.sessions,
      responseMode,
      upgrades: new Deadlines(upgradeAfter, onerror),
      silences: silence === Number.POSITIVE_INFINITY ? undefined : new Deadlines(silence, onerror),
      limits,
      mayRepeat: async (request, call) => {
        const safe = await isSafe(request, call)
        return options.mayRepeat ? options.mayRepeat(request, safe) : safe
      },
      ttlOf: (record) => this.#freshness.ttlOf(record),
      onused: (live) => this.#residents.used(live.id),
      onclosed: (live) => {
        this.#residents.forget(live)
        this.#holdings.review(live.id)
      },
      onerror,
    }
    const hold = async (id: string) => {
      await node.ready()
      return this.#holdings.hold(id)
    }
    const builder = new SessionBuilder({ ...host, hold, load }, factory, hooks, this.#residents)
    this.#building = new Building(builder, {
      lookUps: this.#lookUps,
      load: async (id) => {
        await node.ready()
        return await this.#load(id)
      },
      isLive,
      mayRestore,
      take: (principal) => this.#residents.take(principal),
      onbuilt: (live) => this.#built(live),
      onended: (id) => this.#holdings.review(id),
    })
    this.#sweeper = new Interval(Math.min(Math.max(liveIdle / 4, 100), CHECK_INTERVAL), () => this.#sweep())
    streams.open.onfollowed = (id) => void this.#broadcasts.catchUp(id)
    streams.open.onclosed = (id) => {
      this.#residents.used(id)
      this.#holdings.review(id)
    }
    streams.takeover.finish = (unfinished, caller) => this.#finish(unfinished, caller)
  }

  /** Live sessions on this node. */
  get size(): number {
    return this.#residents.size
  }

  /** Whether the work of this node has been left to others: no request may begin to run here. */
  get left(): boolean {
    return this.#left
  }

  /** A client's `initialize`: the server's answer, and the session if the answer is a result. */
  async create(message: JSONRPCRequest, caller: Caller): Promise<Initialized> {
    await checkRate(this.options.hooks, caller.request)
    const id = this.#lookUps.ids.make()
    this.listen()
    return this.#building.initialize(id, message, caller)
  }

  /** The session of a request, if it is live and there is nothing to be found out about it. */
  at(id: string, principal: Principal): LiveSession | undefined {
    const resident = this.#residents.get(id)
    return resident && !this.#freshness.doubt(resident.live) && belongs(resident, principal) ? resident.live : undefined
  }

  /**
   * The session of a request, live: from memory, or restored. It may be gone again by the time the caller goes on.
   *
   * @throws Refusal if the request has no session.
   */
  async find(id: string, { principal, request }: Caller): Promise<LiveSession> {
    let asOf: number | undefined
    for (let restores = 0; ; ) {
      const resident = this.#residents.get(id)
      if (resident) {
        if (!belongs(resident, principal)) {
          await this.#lookUps.miss(id, principal)
          throw new Refusal('sessionNotFound')
        }
        resident.live.usedAt = monotonic()
        const doubt = this.#freshness.doubt(resident.live, asOf)
        if (!doubt) return resident.live
        const checked = this.#freshness.check(resident)
        if (doubt === 'old') {
          checked.catch(() => {})
          return resident.live
        }
        // What the store was asked from now on is new enough, however slow it is to answer.
        asOf = monotonic()
        await checked
      } else {
        asOf = undefined
        if (restores++ === MAX_RESTORES) throw new Refusal('unavailable')
        await this.#open(id, principal, request)
      }
    }
  }

  /** Whether the session is live here, or soon will be. */
  isHere(id: string): boolean {
    return this.#residents.has(id) || this.#building.has(id)
  }

  /** Makes a session live before a request asks for it. Whom it belongs to is left for the requests to prove. */
  async restore(id: string, request: HttpRequest): Promise<void> {
    if (!this.#residents.has(id)) await this.#open(id, UNPROVEN, request)
  }

  /** Sends a notification to each session that a node has at hand, or to those of them that are subscribed to `uri`. */
  async broadcast(method: string, params?: { uri: string }): Promise<void> {
    const text = JSON.stringify({ jsonrpc: '2.0', method, ...(params && { params }) })
    const broadcast: Broadcast = { batch: randomUUID(), text, ...params }
    const [, missed] = await Promise.all([this.#broadcasts.tell(broadcast), this.#routing.broadcast(broadcast)])
    if (missed > 0)
      this.options.onerror(
        new Error(`${missed} nodes did not say in time that they have told their sessions ${method}`),
      )
  }

  /**
   * Ends all work on this node: gives running requests `timeout` ms to finish, leaves the others to the nodes that their
   * clients turn to, and answers those whose clients cannot resume a stream.
   */
  async drain(timeout: number): Promise<void> {
    const deadline = monotonic() + timeout
    while (monotonic() < deadline && this.#isBusy) await delay(20)
    this.#left = true
    const handedOver = Promise.allSettled(this.#live().map(({ running }) => running.handOver()))
    await within(LEAVE_PATIENCE, handedOver).catch(() => {})
    for (const { running } of this.#live()) running.giveUp()
    await this.#flushed()
  }

  /**
   * Drops the instances of all sessions, which go on in the store.
   *
   * @param endsNode Whether this node ends with them.
   */
  async close(endsNode: boolean): Promise<void> {
    this.#closed = true
    this.#sweeper.stop()
    this.#unlisten?.()
    if (endsNode) this.#holdings.end()
    this.#building.close()
    const disposed = Promise.all(this.#live().map((live) => live.dispose()))
    await within(CLOSE_PATIENCE, disposed).catch(() => {})
    await this.#flushed()
  }

  /** Also the answers of requests that have ended: nobody writes what is left when the streams are closed. */
  async #flushed(): Promise<void> {
    await within(LEAVE_PATIENCE, this.streams.writers.flushed()).catch(() => {})
  }

  /**
   * Takes part in broadcasts. A transport does not before it has a session, so that one that never gets any can be collected.
   */
  listen(): void {
    if (!this.#closed) this.#unlisten ??= this.#routing.listenToAll()
  }

  /** Whether a request runs, or its session is being built. */
  get #isBusy(): boolean {
    return this.#building.size > 0 || this.#live().some((live) => live.busy)
  }

  #live(): LiveSession[] {
    return this.#residents.all().map(({ live }) => live)
  }

  async #open(id: string, principal: ProvenPrincipal, request: HttpRequest): Promise<void> {
    this.listen()
    await this.#building.open(id, principal, request)
  }

  /** A session as it is stored, which this node holds. */
  async #load(id: string): Promise<StoredSession | undefined> {
    const name = this.#holdings.hold(id)
    try {
      const stored = await this.backend.sessions.load(id, name)
      if (stored) {
        this.#holdings.loaded(id, stored)
        const resident = this.#residents.get(id)
        if (resident) resident.holders = Math.max(1, new Set(stored.holders?.map(nodeOf)).size)
      } else if (!this.#building.isInitializing(id)) this.#holdings.forget(id, name)
      return stored
    } finally {
      // The last of it may have gone from here while it was loaded.
      this.#holdings.review(id)
    }
  }

  /** A session has become live here. */
  #built(live: LiveSession): void {
    if (!this.#closed) this.#sweeper.start()
    // A session that is restored is in use, and must not expire. One that was initialized has just been stored.
    if (live.view.restored) this.#freshness.touch(live).catch(() => {})
    void this.#broadcasts.catchUp(live.id)
  }

  async #mayRestore(record: SessionRecord, request: HttpRequest): Promise<boolean> {
    const { hooks } = this.options
    return (await hooks.authorizeRestore?.(infoOf(record), contextOf(request))) ?? true
  }

  /** A session, as other nodes may have to do with it: one that is being built is told when it is there. */
  async #routed(id: string): Promise<RoutedSession | undefined> {
    await this.#building.restored(id)
    const live = this.#residents.get(id)?.live
    if (!live) return undefined
    return {
      deliver: (message) => live.incoming.deliver(message),
      cancel: (message) => live.running.cancel(message),
      notify: (message) => live.instance.dispatch(message),
      follow: async (revision) => {
        if ((live.record?.revision ?? 0) < revision) await this.#freshness.compare(live)
      },
    }
  }

  /** Finishes a stream that nobody writes any more. A backend that is away for a moment is no reason to leave it undone. */
  async #finish(unfinished: UnfinishedStream, caller: Caller): Promise<void> {
    const deadline = monotonic() + FINISH_PATIENCE
    for (;;) {
      try {
        const live = await this.find(unfinished.session, caller)
        if (!live.closed) return await live.running.finish(unfinished, caller.request)
      } catch (error) {
        if (!isPassing(error) || monotonic() > deadline) throw error
        await delay(FINISH_RETRY_INTERVAL)
      }
    }
  }

  /** Ends whatever of a session that is over is on this node. */
  async #end(id: string, record: SessionRecord | undefined, reason: CloseReason | undefined): Promise<void> {
    // The store has no holders of it any more that one could be taken out of.
    this.#holdings.forget(id)
    this.#building.stop(id)
    this.#residents.remove(id)?.live.end()
    this.streams.connections.end(id)
    if (record && reason) await this.options.hooks.onSessionClosed?.(infoOf(record), reason)
  }

  #sweep(): void {
    const { open, connections } = this.streams
    if (this.#holdings.size === 0 && this.#residents.size === 0 && open.size === 0) this.#sweeper.stop()
    const doubtful: Resident[] = []
    this.#residents.sweep((busy) => {
      if (connections.count(busy.live.id) > 0 || busy.live.running.isFollowed) busy.live.usedAt = monotonic()
      if (!busy.checking && this.#freshness.doubt(busy.live)) doubtful.push(busy)
    })
    this.#freshness.forgetStreams((id) => connections.count(id) > 0)
    const streamOnly = open.sessions().filter((id) => !this.#residents.has(id))
    this.#comparing ??= this.#freshness.compareAll(doubtful, streamOnly).finally(() => {
      this.#comparing = undefined
    })
  }
}

/** Whether it may go well when it is tried again. */
function isPassing(error: unknown): boolean {
  return error instanceof Unavailable || (error instanceof Refusal && [429, 503].includes(error.status))
}
