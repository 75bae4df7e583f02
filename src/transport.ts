/** The transport by itself, for people who keep their own routes and their own map of transports. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Assembly, assemble, sharedNode } from './assemble.js'
import type { FetchOptions } from './handler.js'
import { Endpoint } from './http/endpoint.js'
import { FetchHttpReply, FetchHttpRequest } from './http/fetch.js'
import { NodeHttpReply, NodeHttpRequest, type NodeRequest } from './http/node.js'
import { resolveOptions, type SessionOptions, type WireOptions } from './options.js'
import { Instance } from './session/instance.js'
import type { JSONRPCMessage, RequestId } from './wire/jsonrpc.js'
import type { HttpReply, HttpRequest } from './wire/message.js'
import type { AuthInfo, MessageExtra, ServerInstance, Transport } from './wire/sdk.js'

export interface SessionTransportOptions extends SessionOptions, WireOptions {
  /** An existing session that this transport goes on with; the same as calling {@link SessionTransport.hydrate}. */
  sessionId?: string
  /** A client has initialized this session: its record is stored, its id not yet given out. */
  onsessioninitialized?(sessionId: string): void | Promise<void>
  /** The client has ended this session by DELETE. */
  onsessionclosed?(sessionId: string): void | Promise<void>
}

/**
 * Stands where the SDK's `StreamableHTTPServerTransport` (v1), `NodeStreamableHTTPServerTransport` or
 * `WebStandardStreamableHTTPServerTransport` (v2) stood: one session, connected to one server. What it adds is that the
 * session is kept in the backend, and that a new transport can go on with it.
 *
 * @example
 * const transport = new SessionTransport({ backend, sessionId: req.headers['mcp-session-id'] })
 * await buildServer().connect(transport)
 * await transport.handleRequest(req, res, req.body) // as if the process had never ended; 404 if the session is gone
 */
export class SessionTransport implements Transport {
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined

  readonly #assembly: Assembly
  readonly #endpoint: Endpoint
  #sessionId: string | undefined
  /** Whether a session is there, or on its way. */
  #claimed: boolean
  #inner: Instance | undefined
  #started = false
  #closed = false

  /**
   * @throws TypeError for an option that cannot be right; the message says what to write instead.
   */
  constructor(options: SessionTransportOptions = {}) {
    if ('sessionIdGenerator' in options && options.sessionIdGenerator === undefined) {
      throw new TypeError(
        'sessionIdGenerator: undefined asks for a server without sessions; use the SDK’s transport for that',
      )
    }
    const { onsessioninitialized, onsessionclosed } = options
    this.#sessionId = options.sessionId
    this.#claimed = options.sessionId !== undefined
    const resolved = resolveOptions({
      ...options,
      // whoever made the transport decides how long it lives
      liveIdle: Number.POSITIVE_INFINITY,
      onerror: (error) => {
        options.onerror?.(error)
        this.onerror?.(error)
      },
      onSessionInitialized: async ({ id }) => {
        this.#sessionId = id
        await onsessioninitialized?.(id)
      },
      onSessionClosed: async ({ id }, reason) => {
        if (reason === 'deleted') await onsessionclosed?.(id)
      },
    })
    this.#assembly = assemble(() => this.#connection(), resolved, sharedNode(options.backend))
    const { sessions, streams } = this.#assembly
    this.#endpoint = new Endpoint(sessions, streams.connections, resolved, {
      id: () => this.#sessionId,
      claim: () => {
        if (this.#claimed) return false
        this.#claimed = true
        return true
      },
      // once it was connected to a session, the server is no more to be had for another one
      release: () => {
        this.#claimed = this.#inner !== undefined
      },
    })
  }

  /** The session's id; undefined before `initialize`. */
  get sessionId(): string | undefined {
    return this.#sessionId
  }

  /**
   * Goes on with an existing session, before or after `connect`: requests must name it, answers carry it, and the server
   * is told what its predecessor was told. If there is no such session, requests are answered 404; if the backend is away, 503.
   *
   * @throws Error if this transport has a session already.
   */
  async hydrate(sessionId: string): Promise<void> {
    if (this.#sessionId !== undefined && this.#sessionId !== sessionId) {
      throw new Error(`this transport already serves session ${this.#sessionId}; use a new one for ${sessionId}`)
    }
    this.#sessionId = sessionId
    this.#claimed = true
    if (this.#started) await this.#restore(sessionId)
  }

  /** Called by the server's `connect`. */
  async start(): Promise<void> {
    if (this.#started) throw new Error('the transport was started already')
    this.#started = true
    if (this.#sessionId !== undefined) await this.#restore(this.#sessionId)
  }

  /** Called by the server. */
  async send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void> {
    if (!this.#inner) throw new Error('the transport has no session')
    await this.#inner.send(message, options)
  }

  /** Ends the transport; the session goes on in the backend. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const closed = this.#assembly.close()
    this.onclose?.()
    await closed
  }

  /** Ends the stream that answers a request, so that the client reconnects; see the SDK's transport. */
  closeSSEStream(requestId: RequestId): void {
    this.#inner?.closeSSEStream(requestId)
  }

  /** Ends the standalone stream, so that the client reconnects; see the SDK's transport. */
  closeStandaloneSSEStream(): void {
    this.#inner?.closeStandaloneSSEStream()
  }

  /** Answers a request of node:http or Express; `parsedBody` as the SDK's transport takes it. */
  handleRequest(
    req: IncomingMessage & { auth?: AuthInfo | undefined },
    res: ServerResponse,
    parsedBody?: unknown,
  ): Promise<void>
  /** Answers a web `Request`. */
  handleRequest(request: Request, options?: FetchOptions): Promise<Response>
  async handleRequest(
    request: NodeRequest | Request,
    second?: ServerResponse | FetchOptions,
    parsedBody?: unknown,
  ): Promise<unknown> {
    if (request instanceof Request) {
      const { authInfo, parsedBody: body } = (second ?? {}) as FetchOptions
      const reply = new FetchHttpReply()
      await this.#serve(new FetchHttpRequest(request, authInfo, body), reply)
      return reply.response
    }
    const body = parsedBody ?? request.body
    await this.#serve(new NodeHttpRequest(request, body), new NodeHttpReply(second as ServerResponse))
    return undefined
  }

  /** The server that was connected to this transport, as the instance that serves the session. */
  #connection(): ServerInstance {
    if (!this.#started || this.#closed) throw new Error('the transport is not connected to a server')
    if (this.#inner) throw new Error('the server of this transport has served its session already')
    return {
      connect: async (inner) => {
        if (!(inner instanceof Instance)) throw new Error('a transport connects to a session of its own')
        this.#inner = inner
        inner.onmessage = (message, extra) => this.onmessage?.(message, extra)
        await inner.start()
      },
      close: () => this.close(),
    }
  }

  async #serve(request: HttpRequest, reply: HttpReply): Promise<void> {
    const refused = await this.#endpoint.serve(request, reply)
    // There will never be anything to serve: whoever keeps this transport learns by its onclose.
    const own = request.header('mcp-session-id') === this.#sessionId
    if (refused === 'sessionNotFound' && own && !this.#inner && !(await this.#exists())) await this.close()
  }

  /** Told apart from a session that is somebody else's. */
  async #exists(): Promise<boolean> {
    const id = this.#sessionId
    return id !== undefined && (await this.#assembly.backend.sessions.load(id).catch(() => true)) !== undefined
  }

  /** What goes wrong here is answered to each request, by the wire table. */
  async #restore(sessionId: string): Promise<void> {
    await this.#assembly.sessions.restore(sessionId, HYDRATION).catch(() => {})
  }
}

/** Stands for the request where a session is restored before one came. */
const HYDRATION: HttpRequest = {
  method: 'GET',
  authInfo: undefined,
  header: () => undefined,
  body: async () => undefined,
  get requestInfo() {
    return { headers: {}, url: new URL('http://localhost/') }
  },
  get request() {
    return new Request('http://localhost/')
  },
}
