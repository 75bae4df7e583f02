/** One MCP endpoint: each HTTP request from the door to its answer. Read this first. */

import type { Core } from '../assemble.js'
import { Unavailable } from '../backend/bounded.js'
import type { WireOptions } from '../options.js'
import type { LiveSession } from '../session/live.js'
import { defaultPrincipal } from '../session/principal.js'
import type { Principal } from '../session/sessions.js'
import { parseEventId, sessionTag } from '../stream/event-id.js'
import { asError } from '../util/error.js'
import { isMessage, isObject, isRequest, isRequestId, type JSONRPCRequest, type RequestId } from '../wire/jsonrpc.js'
import type { HttpReply, HttpRequest } from '../wire/message.js'
import { Refusal, type RefusalName, refuse } from '../wire/refusal.js'
import {
  BATCH_PROTOCOL_VERSION,
  checkGet,
  checkPost,
  checkProtocolVersion,
  isSessionId,
  SESSION_PROTOCOL_VERSIONS,
} from '../wire/rules.js'
import { SSE_HEADERS } from '../wire/sse.js'
import { guard } from './guard.js'

const DEFAULT_MAX_BODY_SIZE = 4 * 1024 * 1024

/** How often a request may find its session gone from memory before it could be used. */
const MAX_FINDS = 10

/** One session that an endpoint is limited to. */
export interface OnlySession {
  /** Undefined until there is one. */
  id(): string | undefined
  /** Takes the place of the one session; false: it is taken. */
  claim(): boolean
  /** Nothing came of the claim. */
  release(): void
}

/** One HTTP request on its way. */
interface Visit {
  request: HttpRequest
  reply: HttpReply
  /** Of the JSON-RPC request in the body. */
  id: RequestId | undefined
  /** The session that was found to be the request's. */
  session: string | undefined
}

export class Endpoint {
  /** New sessions and requests are sent elsewhere. */
  draining = false
  readonly #guard: ReturnType<typeof guard>
  readonly #maxBodySize: number
  readonly #sse: boolean

  constructor(
    private readonly core: Core,
    private readonly options: WireOptions,
    private readonly only?: OnlySession,
  ) {
    this.#guard = guard(options)
    this.#maxBodySize = options.maxBodySize ?? DEFAULT_MAX_BODY_SIZE
    this.#sse = options.responseMode === 'sse'
  }

  /** Answers the request; resolves with the reason if it was refused. Never rejects. */
  async serve(request: HttpRequest, reply: HttpReply): Promise<RefusalName | undefined> {
    const visit: Visit = { request, reply, id: undefined, session: undefined }
    try {
      this.#guard?.(request)
      switch (request.method) {
        case 'POST': {
          checkPost(request)
          const body = await request.body(this.#maxBodySize)
          visit.id = idOf(body)
          const principal = this.#principalOf(request)
          const owner = typeof principal === 'object' ? await principal : principal
          if (!this.#serveAtHand(body, visit, owner)) await this.#post(body, visit, owner)
          break
        }
        case 'GET':
          checkGet(request)
          await this.#get(visit, await this.#principalOf(request))
          break
        case 'DELETE':
          await this.#delete(visit, await this.#principalOf(request))
          break
        default:
          throw new Refusal('method')
      }
      return undefined
    } catch (error) {
      return this.#refuse(error, visit)
    }
  }

  /** The steady state: one request for a session that is live here, and nothing to wait for. */
  #serveAtHand(body: unknown, visit: Visit, owner: Principal): boolean {
    if (this.draining || !isMessage(body) || !isRequest(body) || body.method === 'initialize') return false
    const { request, reply } = visit
    const live = this.core.sessions.at(this.#sessionIdOf(request), owner)
    if (!live || request.header('mcp-protocol-version') !== live.protocolVersion) return false
    visit.session = live.id
    live.receiveRequest(body, request, reply)
    return true
  }

  async #post(body: unknown, visit: Visit, owner: Principal): Promise<void> {
    const batch = Array.isArray(body)
    const messages = batch ? body : [body]
    if (messages.length === 0 || !messages.every(isMessage)) throw new Refusal('notJsonRpc')
    const requests = messages.filter(isRequest)
    // what a running request waits for still gets through
    if (this.draining && requests.length > 0) throw new Refusal('draining')
    const initialize = requests.find(({ method }) => method === 'initialize')
    if (initialize) {
      if (batch) throw new Refusal('initializeInBatch')
      return await this.#initialize(initialize, visit, owner)
    }
    await this.#withLive(visit, owner, (live) => {
      if (batch && live.protocolVersion !== BATCH_PROTOCOL_VERSION) throw new Refusal('batch')
      return live.receive(messages, batch, visit.request, visit.reply)
    })
  }

  async #initialize(message: JSONRPCRequest, { request, reply }: Visit, owner: Principal): Promise<void> {
    const stale = request.header('mcp-session-id')
    if (stale && (await this.core.sessions.owns(stale, owner))) throw new Refusal('alreadyInitialized')
    if (this.only && !this.only.claim()) throw new Refusal('alreadyInitialized')
    const { response, live } = await this.core.sessions.create(message, request, owner).catch((error) => {
      this.only?.release()
      throw error
    })
    const text = JSON.stringify({ ...response, id: message.id })
    const session = live && { 'mcp-session-id': live.id }
    if (this.#sse) {
      const sink = reply.stream({ ...SSE_HEADERS, ...session })
      sink.write(`event: message\ndata: ${text}\n\n`)
      sink.end()
    } else reply.send(200, { 'content-type': 'application/json', ...session }, text)
  }

  async #get(visit: Visit, owner: Principal): Promise<void> {
    if (this.draining) throw new Refusal('draining')
    const { request, reply } = visit
    await this.#withLive(visit, owner, async (live) => {
      const lastEventId = request.header('last-event-id')
      const cursor = lastEventId ? parseEventId(sessionTag(live.id), lastEventId) : undefined
      if (lastEventId && !cursor) throw new Refusal('lastEventId')
      await this.core.streams.attach(live.owner, cursor, reply, (orphan) =>
        this.#withLive(visit, owner, async (finisher) => {
          if (finisher.closed) return false
          await finisher.finish(orphan, request)
          return true
        }),
      )
      return true
    })
  }

  async #delete(visit: Visit, owner: Principal): Promise<void> {
    const { request, reply } = visit
    checkProtocolVersion(request, SESSION_PROTOCOL_VERSIONS)
    const id = this.#sessionIdOf(request)
    await this.core.sessions.remove(id, owner, request)
    reply.send(200, { 'mcp-session-id': id })
  }

  /** Finds the live session that the request names until `use` could use it: it may go at any time. */
  async #withLive(visit: Visit, owner: Principal, use: (live: LiveSession) => Promise<boolean>): Promise<void> {
    const { request } = visit
    const id = this.#sessionIdOf(request)
    for (let finds = 0; finds < MAX_FINDS; finds++) {
      const live = await this.core.sessions.find(id, owner, request)
      visit.session = id
      // a server may have negotiated a version that only it knows
      if (request.header('mcp-protocol-version') !== live.protocolVersion) {
        checkProtocolVersion(request, SESSION_PROTOCOL_VERSIONS)
      }
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
    if (!principal) return defaultPrincipal(request.authInfo)
    const owner: unknown = principal(request.authInfo, request.request)
    return owner instanceof Promise ? owner.then(asPrincipal) : asPrincipal(owner)
  }

  #refuse(error: unknown, { request, reply, id, session }: Visit): RefusalName {
    const refusal =
      error instanceof Refusal ? error : new Refusal(error instanceof Unavailable ? 'unavailable' : 'internal')
    if (refusal.reason === 'internal') this.options.onerror?.(asError(error))
    // an answer belongs to the session that the client named, unless there is no such session for it
    const named = session ?? request.header('mcp-session-id')
    refuse(reply, refusal, id, refusal.status !== 404 && named && isSessionId(named) ? named : undefined)
    return refusal.reason
  }
}

/** JavaScript's null means nobody, too. */
function asPrincipal(owner: unknown): Principal {
  if (owner === null || owner === undefined) return undefined
  if (typeof owner !== 'string') throw new TypeError('principal() must return a string, or undefined for nobody')
  return owner
}

/** The id that an error should echo. */
function idOf(body: unknown): RequestId | undefined {
  return isObject(body) && 'method' in body && isRequestId(body.id) ? body.id : undefined
}
