/** The transport by itself: for programs with their own routes and their own map of transports. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Assembly, assemble, sharedNode } from './assemble.js'
import type { FetchOptions } from './handler.js'
import { Endpoint } from './http/endpoint.js'
import { FetchHttpReply, FetchHttpRequest } from './http/fetch.js'
import { NodeHttpReply, NodeHttpRequest, type NodeRequest } from './http/node.js'
import { sharedNotices } from './http/notices.js'
import { resolveOptions, type SessionOptions, type WireOptions } from './options.js'
import { Instance } from './session/instance.js'
import type { JSONRPCMessage, RequestId } from './wire/jsonrpc.js'
import type { HttpReply, HttpRequest } from './wire/message.js'
import type { AuthInfo, MessageExtra, ServerInstance, Transport } from './wire/sdk.js'

/** Options of {@link SessionTransport}; none is required. The names in lower case are those of the SDK's transports. */
export interface SessionTransportOptions extends SessionOptions, WireOptions {
  /**
   * An existing session that this transport goes on with; the same as calling {@link SessionTransport.hydrate}. Default:
   * none; the first `initialize` makes one.
   */
  sessionId?: string
  /**
   * Called when a client has initialized this session: its record is stored, its id not yet given out. If it throws,
   * `initialize` is answered 500 and the session is removed.
   */
  onsessioninitialized?(sessionId: string): void | Promise<void>
  /** Called when the client has ended this session by DELETE. If it throws, that is answered 500; the session is over. */
  onsessionclosed?(sessionId: string): void | Promise<void>
}

/**
 * Stands where the SDK's `StreamableHTTPServerTransport` (line 1), `NodeStreamableHTTPServerTransport` or
 * `WebStandardStreamableHTTPServerTransport` (line 2) stood: one session, connected to one server. What it adds is that the
 * session is kept in the backend, and that a new transport can go on with it.
 *
 * @example
 * const transport = new SessionTransport({ backend, sessionId: req.headers['mcp-session-id'] })
 * await buildServer().connect(transport)
 * await transport.handleRequest(req, res, req.body) // as if the process had never ended; 404 if the session is gone
 */
export class SessionTransport implements Transport {
  /** Called once, when the transport is closed: by you, by its server, or because its session is gone. */
  onclose?: (() => void) | undefined
  /** Called with the same errors as the option `onerror`. Set by the server. */
  onerror?: ((error: Error) => void) | undefined
  /** Called with each message of the client. Set by the server. */
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined

  readonly #assembly: Assembly
  readonly #endpoint: Endpoint
  #sessionId: string | undefined
  /** Whether there is a session, or an `initialize` that is to make one. */
  #claimed: boolean
  /** What the session sees of the server that is connected here; undefined: no session has been begun or restored yet. */
  #instance: Instance | undefined
  #started = false
  #closed = false

  /** @throws TypeError for an option whose value cannot be right; the message says what it must be. */
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
      // The program that made the transport decides how long it lives.
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
    const notices = sharedNotices(options.backend, resolved.onerror)
    this.#endpoint = new Endpoint(sessions, streams.connections, resolved, notices, {
      id: () => this.#sessionId,
      claim: () => {
        if (this.#claimed) return false
        this.#claimed = true
        return true
      },
      // A server that was connected to a session cannot serve another one.
      release: () => {
        this.#claimed = this.#instance !== undefined
      },
    })
  }

  /** The session id; undefined before `initialize`. */
  get sessionId(): string | undefined {
    return this.#sessionId
  }

  /**
   * Goes on with an existing session, before or after `connect`: requests must name it, responses carry it, and the server
   * is told what the client told its predecessors. Does not reject if that fails: if there is no such session, requests are
   * answered 404; if the backend is away, 503.
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

  /**
   * Called by the server's `connect`.
   *
   * @throws Error if it was called before: one transport is for one server.
   */
  async start(): Promise<void> {
    if (this.#started) throw new Error('the transport was started already')
    this.#started = true
    if (this.#sessionId !== undefined) await this.#restore(this.#sessionId)
  }

  /**
   * Called by the server, to send a message to the client.
   *
   * @param options.relatedRequestId The request that the message belongs to: it is sent on the stream of that request, any
   *   other on the standalone stream.
   * @throws Error if there is no session yet, or the transport is closed.
   */
  async send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void> {
    if (!this.#instance) throw new Error('the transport has no session')
    await this.#instance.send(message, options)
  }

  /** Ends the transport. The session goes on in the backend, which stays open. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const closed = this.#assembly.close()
    this.onclose?.()
    await closed
  }

  /**
   * Ends the connection that answers a request; the client comes back for the rest (2025-11-25, basic/transports, "Sending
   * Messages to the Server"). As in the SDK's transport.
   */
  closeSSEStream(requestId: RequestId): void {
    this.#instance?.closeSSEStream(requestId)
  }

  /**
   * Ends the connection of the standalone stream; the client comes back (2025-11-25, basic/transports, "Listening for Messages
   * from the Server"). As in the SDK's transport.
   */
  closeStandaloneSSEStream(): void {
    this.#instance?.closeStandaloneSSEStream()
  }

  /**
   * Answers a request of node:http or Express.
   *
   * @param parsedBody The body, if it was parsed already. Default: `req.body` if a body parser left one there.
   */
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
      const reply = new FetchHttpReply(request)
      await this.#serve(new FetchHttpRequest(request, authInfo, body), reply)
      return reply.response
    }
    const body = parsedBody ?? request.body
    await this.#serve(new NodeHttpRequest(request, body), new NodeHttpReply(second as ServerResponse))
    return undefined
  }

  /** Makes the server that is connected to this transport the instance that serves the session. */
  #connection(): ServerInstance {
    if (!this.#started || this.#closed) throw new Error('the transport is not connected to a server')
    if (this.#instance) throw new Error('the server of this transport has served its session already')
    return {
      connect: async (instance) => {
        if (!(instance instanceof Instance)) throw new Error('a transport connects to a session of its own')
        this.#instance = instance
        instance.onmessage = (message, extra) => this.onmessage?.(message, extra)
        await instance.start()
      },
      close: () => this.close(),
    }
  }

  async #serve(request: HttpRequest, reply: HttpReply): Promise<void> {
    const refused = await this.#endpoint.serve(request, reply)
    // The session of this transport is gone for good: `onclose` tells the program to drop the transport.
    const own = request.header('mcp-session-id') === this.#sessionId
    if (refused === 'sessionNotFound' && own && !this.#instance && !(await this.#exists())) await this.close()
  }

  /** A 404 can also mean that the session belongs to another principal. */
  async #exists(): Promise<boolean> {
    const id = this.#sessionId
    return id !== undefined && (await this.#assembly.sessions.stored.exists(id).catch(() => true))
  }

  /** Errors are ignored: each request tries again, and is answered by its own error. */
  async #restore(sessionId: string): Promise<void> {
    await this.#assembly.sessions.restore(sessionId, NO_REQUEST).catch(() => {})
  }
}

/** The request of a restore that no request caused. */
const NO_REQUEST: HttpRequest = {
  method: 'GET',
  cameIn: 'elsewhere',
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
