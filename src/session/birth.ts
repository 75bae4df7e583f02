/** How a live session comes to be: by a client's `initialize`, or by a restore. What fails leaves nothing half-made. */
import type { Journal, SessionRecord } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'
import type { JSONRPCRequest, JSONRPCResponse } from '../wire/jsonrpc.js'
import type { HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { isSessionId } from '../wire/rules.js'
import { LiveSession, type LiveSessionHost } from './live.js'
import { hashPrincipal } from './principal.js'
import { Received } from './received.js'
import type { RequestContext, ServerFactory, SessionHooks } from './session.js'
import { SessionView } from './view.js'

/** A live session that is being made. Set from outside when it must not be served any more. */
export interface Birth {
  /** Deleted meanwhile, or the node is closing. */
  stopped: 'deleted' | 'closing' | undefined
}

export interface Midwife {
  host: LiveSessionHost
  factory: ServerFactory
  hooks: SessionHooks
}

export interface Initialized {
  response: JSONRPCResponse
  /** If the response is a result. */
  live?: LiveSession
}

/** Has a new server answer `initialize`; stores the session if it answers with a result. */
export async function initialize(
  { host, factory, hooks }: Midwife,
  id: string,
  message: JSONRPCRequest,
  request: HttpRequest,
  principal: string | undefined,
): Promise<Initialized> {
  if (!isSessionId(id)) throw new Error('sessionIdGenerator must return up to 256 characters of visible ASCII')
  await host.node.ready()
  const context = contextOf(request)
  const journal: Journal = { initialize: message.params ?? {}, initialized: false, subscriptions: [] }
  const createdAt = Date.now()
  const begin = { createdAt, protocolVersion: String(journal.initialize.protocolVersion), journal }
  const view = new SessionView(host.store, id, false, principal, begin)
  const live = new LiveSession(host, id, view)
  let stored = false
  try {
    await live.connect(await factory({ session: view, restored: false, ...context }))
    const response = await live.call(message.method, message.params, new Received(request))
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
    if (!(await host.store.create(record, host.ttlOf(record)))) {
      stored = false
      host.onerror(new Error('sessionIdGenerator returned an id that was used before'))
      throw new Refusal('unavailable')
    }
    live.recorded(record)
    live.touchedAt = monotonic()
    await hooks.onSessionInitialized?.(view, context)
    return { response, live }
  } catch (error) {
    // A create that timed out may still have happened. Nobody knows the id: what is left, if this fails too, expires.
    if (stored) host.store.delete(id).catch(() => {})
    void live.dispose()
    throw error
  }
}

/** Builds a new server for a stored session, and tells it what its predecessor was told. */
export async function restore(
  { host, factory, hooks }: Midwife,
  loaded: SessionRecord,
  request: HttpRequest,
  principal: string | undefined,
  birth: Birth,
): Promise<LiveSession> {
  const { id } = loaded
  await host.node.ready()
  const context = contextOf(request)
  const view = new SessionView(host.store, id, true, principal, loaded)
  const live = new LiveSession(host, id, view)
  try {
    // From here on a change made elsewhere is told; one made since the record was loaded is seen by loading it again.
    const record = await host.store.load(id)
    if (!record) throw new Refusal('sessionNotFound')
    live.checkedAt = monotonic()
    live.recorded(record)
    check(live, birth)
    await live.connect(await factory({ session: view, restored: true, ...context }))
    await live.replay(record.journal, new Received(request))
    await hooks.onSessionRestored?.(view, context)
    return live
  } catch (error) {
    if (birth.stopped === 'deleted') live.end()
    else void live.dispose()
    throw error
  }
}

/** Whether what was made may still be served; to be asked in the same breath in which it begins to be. */
export function check(live: LiveSession, birth: Birth): void {
  if (!birth.stopped && !live.closed) return
  if (birth.stopped === 'deleted') live.end()
  else void live.dispose()
  if (birth.stopped) throw new Refusal(birth.stopped === 'deleted' ? 'sessionNotFound' : 'draining')
  throw new Error('the server closed before its session could be used')
}

export function contextOf(request: HttpRequest): RequestContext {
  return { authInfo: request.authInfo, request: request.request }
}
