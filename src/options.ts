/** What users give to and get from mcp-roam: options, hooks, and the session as their code sees it. */
import type { Backend } from './backend/backend.js'
import type { GuardOptions } from './http/guard.js'
import type { JSONRPCMessage, RequestId } from './jsonrpc.js'

/** Information about a validated access token; the same shape as the SDKs'. */
export interface AuthInfo {
  token: string
  clientId: string
  scopes: string[]
  /** Seconds since the epoch. */
  expiresAt?: number
  resource?: URL
  extra?: Record<string, unknown>
}

/** What comes with a message into a server instance, for both SDK lines. */
export interface MessageExtra {
  authInfo?: AuthInfo
  requestInfo?: { headers: Record<string, string | string[] | undefined>; url?: URL }
  request?: Request
  closeSSEStream?: () => void
  closeStandaloneSSEStream?: () => void
}

/** The SDKs' `Transport`, as far as a server needs it. */
export interface Transport {
  start(): Promise<void>
  send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void>
  close(): Promise<void>
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined
  sessionId?: string | undefined
}

/** What serves one session on one node: an `McpServer` or `Server` of either SDK line, or anything that speaks to a transport. */
export interface ServerInstance {
  connect(transport: Transport): Promise<void>
  close(): Promise<void>
}

/** JSON values that belong to a session: visible on every node, gone when the session is. */
export interface SessionState {
  /** The value under a key; undefined if there is none. */
  get<T = unknown>(key: string): Promise<T | undefined>
  /** Sets a value, whatever was there. */
  set(key: string, value: unknown): Promise<void>
  /** Removes a value. */
  delete(key: string): Promise<void>
  /**
   * Replaces a value by what `change` makes of it, atomically across nodes; `change` may run more than once.
   * Returning undefined removes the value. Resolves with the new value.
   *
   * @example
   * const calls = await currentSession().state.update('calls', (n: number = 0) => n + 1)
   */
  update<T = unknown>(key: string, change: (value: T | undefined) => T | undefined): Promise<T | undefined>
}

/** A session, as stored. */
export interface SessionInfo {
  readonly id: string
  readonly createdAt: Date
  /** The negotiated protocol version. */
  readonly protocolVersion: string
  /** What the client said of itself in `initialize`. */
  readonly clientInfo: { name: string; version: string; [key: string]: unknown } | undefined
  readonly clientCapabilities: Record<string, unknown>
  /** URIs the client is subscribed to. */
  readonly subscriptions: readonly string[]
}

/** A session, as the code that serves it sees it. */
export interface Session extends SessionInfo {
  /** Whether the server instance at hand was built by a restore. */
  readonly restored: boolean
  /** Whom the session belongs to; undefined: anonymous. */
  readonly principal: string | undefined
  readonly state: SessionState
}

/** What a hook, the factory or `principal` may look at of the HTTP request that caused the call. */
export interface RequestContext {
  /** The request's own, never the one that initialized the session. */
  readonly authInfo: AuthInfo | undefined
  /** The request, without its body. */
  readonly request: Request
}

export interface FactoryContext extends RequestContext {
  readonly session: Session
  /** False for a client's `initialize`, true when an existing session gets a new instance. */
  readonly restored: boolean
}

/** Builds the server instance of one session; a new one at each call. */
export type ServerFactory = (context: FactoryContext) => ServerInstance | Promise<ServerInstance>

/** `deleted`: by the client or `sessions.delete`, told on the node that did it; `gone`: found missing while it was live here. */
export type CloseReason = 'deleted' | 'gone'

/** Each may be async; one that throws fails the request that it was called for (500), and leaves nothing half-made. */
export interface SessionHooks {
  /** The client has a new session: its record is stored, its id not yet given out. */
  onSessionInitialized?(session: Session, context: RequestContext): void | Promise<void>
  /** Whether this request may restore the session on this node; false is answered like an unknown session (404). */
  authorizeRestore?(session: SessionInfo, context: RequestContext): boolean | Promise<boolean>
  /** A new instance has replayed the session's journal and is about to serve its first request. */
  onSessionRestored?(session: Session, context: RequestContext): void | Promise<void>
  /** The session is over. An eviction is not: the session goes on and may be restored at any time. */
  onSessionClosed?(session: SessionInfo, reason: CloseReason): void | Promise<void>
}

/** How a POST with requests is answered: see {@link WireOptions.responseMode}. */
export type ResponseMode = 'auto' | 'sse' | 'json'

/** How sessions behave on the wire. */
export interface WireOptions extends GuardOptions {
  /**
   * `auto` (default): JSON if the answer is the first thing the handler produces and comes within `upgradeAfter`, else an
   * SSE stream. `sse`: always a stream. `json`: never; what a handler sends besides its answer takes the standalone stream.
   */
  responseMode?: ResponseMode
  /**
   * How long `auto` waits for an answer before it opens a stream, in ms. Default 100: a stream costs some 0.3 ms of work,
   * which is little beside a call that takes longer than that, and what a node takes with it when it dies is no more than this.
   */
  upgradeAfter?: number
  /** Interval of SSE comments that keep proxies from closing quiet streams, in ms. Default 15,000; 0: none. */
  keepAlive?: number
  /** What clients are told to wait before they reconnect (SSE `retry:`), in ms. Default 1,000. */
  retryInterval?: number
  /**
   * Bytes that are written ahead to a slow reader; the rest waits in the log. A reader that takes nothing of them for 2 s is
   * disconnected, and resumes from the log. Default 1 MiB.
   */
  maxBuffered?: number
  /** Bytes of a POST body. Default 4 MiB. Not applied to a body that the host program parsed. */
  maxBodySize?: number
  /**
   * Whom a request's session belongs to; compared on each request, kept as a hash. Undefined: anonymous.
   * Default: client id and subject (`extra.sub`) of the verified `authInfo`.
   */
  principal?(authInfo: AuthInfo | undefined, request: Request): string | undefined | Promise<string | undefined>
  /**
   * Whether a request whose node died before it had answered is run again by the node that its client turns to; else the
   * client is told that the outcome is unknown. `safe` is the default's decision: true for reads, and for calls of tools
   * annotated `readOnlyHint` or `idempotentHint`.
   *
   * @example
   * mayRepeat: (request, safe) => safe || request.params?.name === 'search'
   */
  mayRepeat?(request: { method: string; params?: Record<string, unknown> | undefined }, safe: boolean): boolean
  /** Told of errors that no request can be answered with. Default: ignored. */
  onerror?(error: Error): void
}

/** How sessions are kept. */
export interface SessionOptions {
  /**
   * Where sessions live. Default: `memory()`, which survives nothing. A backend made with only a session store restores
   * sessions anywhere, and keeps streams and routing on their node.
   */
  backend?: Backend
  /** Makes session ids: visible ASCII, unguessable, never the same twice. Default: `crypto.randomUUID`. */
  sessionIdGenerator?(): string
  /** A session nobody uses is forgotten after this, in ms. Default 7 days. */
  idleTtl?: number
  /** A session is forgotten this long after its `initialize`, used or not, in ms. Default: never. */
  maxAge?: number
  /** Longest wait for one answer of the backend, in ms; then 503. Default 5,000. */
  backendTimeout?: number
}

export interface SessionHandlerOptions extends SessionOptions, WireOptions, SessionHooks {
  /**
   * A live session without request in flight or open stream is dropped from memory after this, in ms; the next request
   * restores it. Default 5 minutes.
   */
  liveIdle?: number
  /** Live sessions kept in memory; over it the least recently used idle ones are dropped. Default 10,000. */
  maxLiveSessions?: number
}
