/** One MCP endpoint: each HTTP request from the door to its answer. Read this first. */
import { Unavailable } from '../backend/bounded.js'
import type { LiveSession } from '../session/live.js'
import { defaultPrincipal, hasSubject, NO_SUBJECT, type Principal } from '../session/principal.js'
import { isForOneInstance } from '../session/routing.js'
import type { Sessions } from '../session/sessions.js'
import type { Connections } from '../stream/connections.js'
import { parseEventId } from '../stream/event-id.js'
import { monotonic } from '../util/clock.js'
import { asError } from '../util/error.js'
import { nextTurn } from '../util/next-turn.js'
import { Ticks } from '../util/ticks.js'
import { idIn, messagesIn } from '../wire/body.js'
import {
  isRequest,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  type RequestId,
} from '../wire/jsonrpc.js'
import type { Limits } from '../wire/limits.js'
import type { Caller, HttpReply, HttpRequest } from '../wire/message.js'
import { Refusal, type RefusalName, refuse } from '../wire/refusal.js'
import {
  BATCH_PROTOCOL_VERSION,
  checkGet,
  checkHeaders,
  checkPost,
  checkProtocolVersion,
  isSessionId,
  SESSION_PROTOCOL_VERSIONS,
} from '../wire/rules.js'
import type { AuthInfo } from '../wire/sdk.js'
import { messageEvent, SSE_HEADERS } from '../wire/sse.js'
import { type Guard, type GuardOptions, guard } from './guard.js'
import { Notices } from './notices.js'

/** How often a request may find its session gone from memory before it could be used. */
const MAX_FINDS = 10
/**
 * All 404s for a session leave at the ticks of one clock, in ms, the second one after the search began: how long it was
 * looked for, and so whether it is unknown or somebody else's, does not show as long as that takes no longer.
 */
const NOT_FOUND_TICK = 20

/** One session that an endpoint is limited to. */
export interface OnlySession {
  /** Undefined until there is one. */
  id(): string | undefined
  /** Takes the place of the one session; false: it is taken. */
  claim(): boolean
  /** Nothing came of the claim. */
  release(): void
}

export interface EndpointOptions extends GuardOptions {
  responseMode: 'auto' | 'sse' | 'json'
  maxBodySize: number
  limits: Readonly<Limits>
  principal: ((authInfo: AuthInfo | undefined, request: Request) => Principal | Promise<Principal>) | undefined
  onerror(error: Error): void
}

/** One HTTP request on its way. */
interface Visit {
  request: HttpRequest
  reply: HttpReply
  /** The id of the JSON-RPC request in the body. */
  id: RequestId | undefined
  /** The session that was found to be the request's. */
  session: string | undefined
  /** When all of the request was there, by the monotonic clock. */
  since: number
}

export class Endpoint {
  /** New sessions and requests are sent elsewhere. */
  draining = false
  /** How many requests were refused since the start because a limit was reached. */
  readonly refused = { full: 0, rateLimited: 0, tooManyRequests: 0, tooManyStreams: 0, tooManySessions: 0 }
  readonly #guard: Guard
  readonly #ticks = new Ticks(NOT_FOUND_TICK)

  constructor(
    private readonly sessions: Sessions,
    private readonly connections: Connections,
    private readonly options: EndpointOptions,
    private readonly notices = new Notices(options.onerror),
    private readonly only?: OnlySession,
  ) {
    this.#guard = guard({ ...options, notices })
  }

  /** Answers the request; resolves with the reason if it was refused. Never rejects. */
  async serve(request: HttpRequest, reply: HttpReply): Promise<RefusalName | undefined> {
    const visit: Visit = { request, reply, id: undefined, session: undefined, since: monotonic() }
    const { limits, maxBodySize } = this.options
    try {
      checkHeaders(request, limits.header)
      this.#guard(request)
      switch (request.method) {
        case 'POST': {
          checkPost(request)
          const body = await request.body(maxBodySize)
          visit.since = monotonic()
          visit.id = idIn(body, limits.id)
          const posted = messagesIn(body, limits)
          const named = this.#principalOf(request)
          const principal = typeof named === 'object' ? await named : named
          if (!this.#serveAtHand(posted, visit, principal)) await this.#post(posted, visit, { request, principal })
          break
        }
        case 'GET':
          checkGet(request)
          await this.#get(visit, { request, principal: await this.#principalOf(request) })
          break
        case 'DELETE':
          await this.#delete(visit, { request, principal: await this.#principalOf(request) })
          break
        default:
          throw new Refusal('method')
      }
      return undefined
    } catch (error) {
      if (error instanceof Refusal && error.reason === 'sessionNotFound') await this.#ticks.after(visit.since)
      return this.#refuse(error, visit)
    }
  }

  /** The steady state: one request for a session that is live here, and nothing to wait for. */
  #serveAtHand(posted: JSONRPCMessage | JSONRPCMessage[], visit: Visit, principal: Principal): boolean {
    if (this.draining || Array.isArray(posted) || !isRequest(posted) || posted.method === 'initialize') return false
    const { request, reply } = visit
    const live = this.sessions.at(this.#sessionIdOf(request), principal)
    if (!live || request.header('mcp-protocol-version') !== live.protocolVersion) return false
    visit.session = live.id
    live.incoming.receiveRequest(posted, request, reply)
    return true
  }

  async #post(posted: JSONRPCMessage | JSONRPCMessage[], visit: Visit, caller: Caller): Promise<void> {
    const batch = Array.isArray(posted)
    const messages = batch ? posted : [posted]
    const requests = messages.filter(isRequest)
    // What a running request waits for still gets through.
    if (this.draining && requests.length > 0) throw new Refusal('draining')
    const initialize = requests.find(({ method }) => method === 'initialize')
    if (initialize) {
      if (batch) throw new Refusal('initializeInBatch')
      return await this.#initialize(initialize, visit.reply, caller)
    }
    if (messages.every(isForOneInstance) && (await this.#forward(messages, batch, visit, caller))) return
    await this.#withLive(visit, caller, (live) => {
      if (batch && live.protocolVersion !== BATCH_PROTOCOL_VERSION) throw new Refusal('batch')
      // The drain may have come to its end while the session was restored.
      if (this.sessions.left && requests.length > 0) throw new Refusal('draining')
      return live.incoming.receive(messages, batch, visit.request, visit.reply)
    })
  }

  /** Sends messages on to the instances that they are for; false: the session is live here, or soon will be. */
  async #forward(
    messages: readonly (JSONRPCResponse | JSONRPCNotification)[],
    batch: boolean,
    visit: Visit,
    caller: Caller,
  ): Promise<boolean> {
    const id = this.#sessionIdOf(visit.request)
    if (this.sessions.isHere(id)) return false
    const stored = await this.sessions.stored.find(id, caller)
    // The request that they are about may have come here just before them.
    if (this.sessions.isHere(id)) return false
    const { protocolVersion } = stored.record
    visit.session = id
    checkNegotiated(visit.request, protocolVersion)
    if (batch && protocolVersion !== BATCH_PROTOCOL_VERSION) throw new Refusal('batch')
    for (const [index, message] of messages.entries()) {
      if (index > 0) await nextTurn()
      await this.sessions.stored.forward(stored, message)
    }
    visit.reply.send(202, { 'mcp-session-id': id })
    return true
  }

  async #initialize(message: JSONRPCRequest, reply: HttpReply, caller: Caller): Promise<void> {
    const size = JSON.stringify(message.params ?? {}).length
    if (size > this.options.limits.initialize) throw new Refusal('initializeTooLarge')
    const stale = caller.request.header('mcp-session-id')
    if (stale && (await this.sessions.stored.owns(stale, caller.principal))) throw new Refusal('alreadyInitialized')
    if (this.only && !this.only.claim()) throw new Refusal('alreadyInitialized')
    const { response, live } = await this.sessions.create(message, caller).catch((error) => {
      this.only?.release()
      throw error
    })
    const text = JSON.stringify({ ...response, id: message.id })
    const session = live && { 'mcp-session-id': live.id }
    if (this.options.responseMode === 'sse') {
      const sink = reply.stream({ ...SSE_HEADERS, ...session })
      sink.write(messageEvent(undefined, text))
      sink.end()
    } else reply.send(200, { 'content-type': 'application/json', ...session }, text)
  }

  async #get(visit: Visit, caller: Caller): Promise<void> {
    if (this.draining) throw new Refusal('draining')
    const { request, reply } = visit
    await this.#withLive(visit, caller, async ({ streamSession }) => {
      const lastEventId = request.header('last-event-id')
      const cursor = lastEventId ? parseEventId(streamSession.tag, lastEventId) : undefined
      if (lastEventId && !cursor) throw new Refusal('lastEventId')
      await this.connections.attach(streamSession, cursor, reply, caller)
      return true
    })
  }

  async #delete({ request, reply }: Visit, caller: Caller): Promise<void> {
    checkProtocolVersion(request, SESSION_PROTOCOL_VERSIONS)
    const id = this.#sessionIdOf(request)
    await this.sessions.stored.remove(id, caller)
    reply.send(200, { 'mcp-session-id': id })
  }

  /** Finds the live session that the request names until `use` could use it: it may go at any time. */
  async #withLive(visit: Visit, caller: Caller, use: (live: LiveSession) => Promise<boolean>): Promise<void> {
    const { request } = visit
    const id = this.#sessionIdOf(request)
    for (let finds = 0; finds < MAX_FINDS; finds++) {
      const live = await this.sessions.find(id, caller)
      visit.session = id
      checkNegotiated(request, live.protocolVersion)
      if (await use(live)) return
    }
    throw new Refusal('unavailable')
  }

  #sessionIdOf(request: HttpRequest): string {
    const id = request.header('mcp-session-id')
    if (!id) throw new Refusal('noSessionId')
    if (this.only && this.only.id() !== id) throw new Refusal(this.only.id() ? 'sessionNotFound' : 'notInitialized')
    return id
  }

  #principalOf(request: HttpRequest): Principal | Promise<Principal> {
    const { principal } = this.options
    if (!principal) return this.#defaultPrincipal(request.authInfo)
    const named: unknown = principal(request.authInfo, request.request)
    return named instanceof Promise ? named.then(asPrincipal) : asPrincipal(named)
  }

  #defaultPrincipal(authInfo: AuthInfo | undefined): Principal {
    if (authInfo && !hasSubject(authInfo)) this.notices.once('subject', '', () => NO_SUBJECT)
    return defaultPrincipal(authInfo)
  }

  #refuse(error: unknown, { request, reply, id, session }: Visit): RefusalName {
    const refusal =
      error instanceof Refusal ? error : new Refusal(error instanceof Unavailable ? 'unavailable' : 'internal')
    if (refusal.reason in this.refused) this.refused[refusal.reason as keyof Endpoint['refused']]++
    if (refusal.reason === 'internal') this.options.onerror(asError(error))
    // An answer names the session that the client named, unless there is no such session for this client.
    const named = session ?? request.header('mcp-session-id')
    refuse(reply, refusal, id, refusal.status !== 404 && named && isSessionId(named) ? named : undefined)
    return refusal.reason
  }
}

/** A server may have negotiated a version that only it knows. */
function checkNegotiated(request: HttpRequest, version: string | undefined): void {
  if (request.header('mcp-protocol-version') !== version) checkProtocolVersion(request, SESSION_PROTOCOL_VERSIONS)
}

/** JavaScript's null means nobody, too. */
function asPrincipal(named: unknown): Principal {
  if (named === null || named === undefined) return undefined
  if (typeof named !== 'string') throw new TypeError('principal() must return a string, or undefined for nobody')
  return named
}
