/** How a live session comes to be: by a client's `initialize`, or by a restore. What fails leaves nothing half-made. */
import type { Journal, SessionRecord, StoredSession } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'
import type { JSONRPCRequest, JSONRPCResponse } from '../wire/jsonrpc.js'
import type { Caller, HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { LiveSession, type LiveSessionHost } from './live.js'
import { RequestExtra } from './message-extra.js'
import type { Place } from './places.js'
import { hashPrincipal, type Principal, type ProvenPrincipal, UNPROVEN } from './principal.js'
import type { Residents } from './residents.js'
import type { RequestContext, ServerFactory, SessionHooks } from './session.js'
import { SessionView } from './view.js'

/** A live session that is being built. */
export interface Build {
  /** Set from outside when it must not be served any more: it was deleted meanwhile, or the node is closing. */
  stopped: 'deleted' | 'closing' | undefined
  /** The newest revision of the record that was told of meanwhile. */
  newest: number
}

export interface Initialized {
  response: JSONRPCResponse
  /** Undefined: the response is an error, and there is no session. */
  live?: LiveSession
}

export class SessionBuilder {
  constructor(
    private readonly host: LiveSessionHost & {
      /** Resolves when other nodes can reach this one, with the name under which it holds the session. */
      hold(id: string): Promise<string>
      /** The session as it is stored. */
      load(id: string): Promise<StoredSession | undefined>
    },
    private readonly factory: ServerFactory,
    private readonly hooks: SessionHooks,
    private readonly residents: Residents,
  ) {}

  /** Has a new server answer `initialize`; stores and publishes the session if it answers with a result. */
  async initialize(
    id: string,
    message: JSONRPCRequest,
    { request, principal }: Caller,
    build: Build,
    place: Place,
  ): Promise<Initialized> {
    const { host, hooks } = this
    const holder = await host.hold(id)
    const context = contextOf(request)
    const journal: Journal = { initialize: message.params ?? {}, initialized: false, subscriptions: [] }
    const createdAt = Date.now()
    const begin = { createdAt, protocolVersion: String(journal.initialize.protocolVersion), journal }
    const view = new SessionView(host.store, id, false, principal, begin, host.limits)
    const live = new LiveSession(host, id, view)
    let stored = false
    try {
      const server = await this.factory({ session: view, restored: false, ...context })
      const call = () => live.instance.call(message.method, message.params, new RequestExtra(request))
      const response = await live.instance.connect(server, call)
      if ('error' in response) {
        void live.dispose()
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
      if (!(await host.store.create(record, host.ttlOf(record), holder))) {
        stored = false
        host.onerror(new Error('sessionIdGenerator returned an id that was used before'))
        throw new Refusal('unavailable')
      }
      live.recorded(record)
      live.touchedAt = monotonic()
      await hooks.onSessionInitialized?.(view, context)
      await this.#publish(live, principal, build, place)
      return { response, live }
    } catch (error) {
      // A create that timed out may still have happened. Nobody knows the id: what is left, if this fails too, expires.
      if (stored) host.store.delete(id).catch(() => {})
      void live.dispose()
      throw error
    }
  }

  /** Builds a new server for a stored session, tells it what its predecessor was told, and publishes it. */
  async restore(
    loaded: SessionRecord,
    request: HttpRequest,
    principal: ProvenPrincipal,
    build: Build & {
      /** When the record was loaded, by the monotonic clock. */
      loadedAt: number
    },
    place: Place,
  ): Promise<LiveSession> {
    const { id } = loaded
    const { host, hooks } = this
    const context = contextOf(request)
    const view = new SessionView(host.store, id, true, known(principal), loaded, host.limits)
    const live = new LiveSession(host, id, view)
    try {
      live.checkedAt = build.loadedAt
      live.recorded(loaded)
      throwIfStopped(live, build)
      const server = await this.factory({ session: view, restored: true, ...context })
      const replay = () => live.instance.replay(loaded.journal, live.protocolVersion, new RequestExtra(request))
      await live.instance.connect(server, replay)
      await hooks.onSessionRestored?.(view, context)
      await this.#publish(live, principal, build, place)
      return live
    } catch (error) {
      if (build.stopped === 'deleted') live.end()
      else void live.dispose()
      throw error
    }
  }

  async #publish(live: LiveSession, principal: ProvenPrincipal, build: Build, place: Place): Promise<void> {
    // A change that was made elsewhere since the record was stored, or loaded, has been told.
    while ((live.record?.revision ?? 0) < build.newest) {
      const { newest } = build
      const askedAt = monotonic()
      const stored = await this.host.load(live.id)
      if (!stored) throw new Refusal('sessionNotFound')
      await live.adopt(stored.record, askedAt)
      // A store that went backwards meanwhile has no such revision.
      if (build.newest === newest) break
    }
    // From here on nothing is waited for: what is told next is told to a session that is live.
    throwIfStopped(live, build)
    this.residents.add({ live, principal, place })
    live.publish()
  }
}

/** Disposes the instance and throws if it was deleted, closed or stopped meanwhile. Call synchronously before publishing. */
function throwIfStopped(live: LiveSession, build: Build): void {
  if (!build.stopped && !live.closed) return
  if (build.stopped === 'deleted') live.end()
  else void live.dispose()
  if (build.stopped) throw new Refusal(build.stopped === 'deleted' ? 'sessionNotFound' : 'draining')
  throw new Error('the server closed before its session could be used')
}

function known(principal: ProvenPrincipal): Principal {
  return principal === UNPROVEN ? undefined : principal
}

/** What users' code may see of a request. */
export function contextOf(request: HttpRequest): RequestContext {
  return { authInfo: request.authInfo, request: request.request }
}
