/** One MCP endpoint: each HTTP request from the door to its answer. Read this first. */

import { Unavailable } from './backend/bounded.js'
import type { Core } from './core.js'
import { guard } from './http/guard.js'
import type { HttpReply, HttpRequest } from './http/message.js'
import { Refusal, refuse } from './http/refusal.js'
import {
  BATCH_PROTOCOL_VERSION,
  checkGet,
  checkPost,
  checkProtocolVersion,
  SESSION_PROTOCOL_VERSIONS,
} from './http/rules.js'
import { isMessage, isObject, isRequest, isRequestId, type JSONRPCRequest, type RequestId } from './jsonrpc.js'
import type { WireOptions } from './options.js'
import type { LiveSession } from './session/live.js'
import { parseEventId, sessionTag } from './stream/event-id.js'
import { SSE_HEADERS } from './stream/sse.js'

const DEFAULT_MAX_BODY_SIZE = 4 * 1024 * 1024

export class Endpoint {
  /** New sessions and requests are sent elsewhere. */
  draining = false
  readonly #guard: ReturnType<typeof guard>
  readonly #maxBodySize: number
  readonly #sse: boolean

  constructor(
    private readonly core: Core,
    private readonly options: WireOptions,
    /** For an endpoint that serves a single session: its id, once it has one. */
    private readonly only?: () => string | undefined,
  ) {
    this.#guard = guard(options)
    this.#maxBodySize = options.maxBodySize ?? DEFAULT_MAX_BODY_SIZE
    this.#sse = options.responseMode === 'sse'
  }

  async serve(request: HttpRequest, reply: HttpReply): Promise<void> {
    let id: RequestId | undefined
    try {
      this.#guard?.(request)
      switch (request.method) {
        case 'POST': {
          checkPost(request)
          const body = await request.body(this.#maxBodySize)
          id = idOf(body)
          const live = this.#atHand(body, request)
          if (live) return live.receiveRequest(body as JSONRPCRequest, request, reply)
          return await this.#post(body, request, reply)
        }
        case 'GET':
          checkGet(request)
          return await this.#get(request, reply)
        case 'DELETE':
          return await this.#delete(request, reply)
        default:
          throw new Refusal('method')
      }
    } catch (error) {
      this.#refuse(error, id, request, reply)
    }
  }

  /** The steady state: one request for a session that is live here, and nothing to wait for. */
  #atHand(body: unknown, request: HttpRequest): LiveSession | undefined {
    if (this.draining || !isMessage(body) || !isRequest(body) || body.method === 'initialize') return undefined
    const live = this.core.sessions.at(this.#sessionIdOf(request), request)
    return live && request.header('mcp-protocol-version') === live.protocolVersion ? live : undefined
  }

  async #post(body: unknown, request: HttpRequest, reply: HttpReply): Promise<void> {
    const batch = Array.isArray(body)
    const messages = batch ? body : [body]
    if (messages.length === 0 || !messages.every(isMessage)) throw new Refusal('notJsonRpc')
    const requests = messages.filter(isRequest)
    // what a running request waits for still gets through
    if (this.draining && requests.length > 0) throw new Refusal('draining')
    const initialize = requests.find(({ method }) => method === 'initialize')
    if (initialize) {
      if (batch) throw new Refusal('initializeInBatch')
      return await this.#initialize(initialize, request, reply)
    }
    const live = await this.#find(request)
    if (batch && live.protocolVersion !== BATCH_PROTOCOL_VERSION) throw new Refusal('batch')
    await live.receive(messages, batch, request, reply)
  }

  async #initialize(message: JSONRPCRequest, request: HttpRequest, reply: HttpReply): Promise<void> {
    if (this.only?.() !== undefined) throw new Refusal('alreadyInitialized')
    const stale = request.header('mcp-session-id')
    if (stale !== undefined && (await this.core.sessions.owns(stale, request))) throw new Refusal('alreadyInitialized')
    const { response, live } = await this.core.sessions.create(message, request)
    const text = JSON.stringify({ ...response, id: message.id })
    const session = live && { 'mcp-session-id': live.id }
    if (this.#sse) {
      const sink = reply.stream({ ...SSE_HEADERS, ...session })
      sink.write(`event: message\ndata: ${text}\n\n`)
      sink.end()
    } else reply.send(200, { 'content-type': 'application/json', ...session }, text)
  }

  async #get(request: HttpRequest, reply: HttpReply): Promise<void> {
    if (this.draining) throw new Refusal('draining')
    const live = await this.#find(request)
    const lastEventId = request.header('last-event-id')
    const cursor = lastEventId ? parseEventId(sessionTag(live.id), lastEventId) : undefined
    if (lastEventId && !cursor) throw new Refusal('lastEventId')
    await this.core.streams.attach(live.owner, cursor, reply, async (orphan) => {
      const finisher = live.closed ? await this.#find(request) : live
      await finisher.finish(orphan, request)
    })
  }

  async #delete(request: HttpRequest, reply: HttpReply): Promise<void> {
    checkProtocolVersion(request, SESSION_PROTOCOL_VERSIONS)
    const id = this.#sessionIdOf(request)
    await this.core.sessions.remove(id, request)
    reply.send(200, { 'mcp-session-id': id })
  }

  /** The live session that the request names; it may be used until the next `await`. */
  async #find(request: HttpRequest): Promise<LiveSession> {
    const id = this.#sessionIdOf(request)
    const version = request.header('mcp-protocol-version')
    for (;;) {
      const live = await this.core.sessions.find(id, request)
      if (live.closed) continue
      // a server may have negotiated a version that only it knows
      if (version !== live.protocolVersion) checkProtocolVersion(request, SESSION_PROTOCOL_VERSIONS)
      return live
    }
  }

  #sessionIdOf(request: HttpRequest): string {
    const id = request.header('mcp-session-id')
    if (id === undefined || id === '') throw new Refusal('noSessionId')
    if (this.only && this.only() !== id) throw new Refusal(this.only() ? 'sessionNotFound' : 'notInitialized')
    return id
  }

  #refuse(error: unknown, id: RequestId | undefined, request: HttpRequest, reply: HttpReply): void {
    if (error instanceof Unavailable) {
      refuse(reply, new Refusal('unavailable'), id)
      return
    }
    if (!(error instanceof Refusal)) this.options.onerror?.(error instanceof Error ? error : new Error(String(error)))
    // the id of a session that is none of the client's is not confirmed
    const known = error instanceof Refusal && error.status !== 404
    refuse(reply, error, id, known ? request.header('mcp-session-id') : undefined)
  }
}

/** The id that an error should echo. */
function idOf(body: unknown): RequestId | undefined {
  return isObject(body) && 'method' in body && isRequestId(body.id) ? body.id : undefined
}
