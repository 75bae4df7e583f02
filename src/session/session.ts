/** A session as users' code sees it: in handlers, in hooks, and from outside. */
import type { AuthInfo, ServerInstance } from '../wire/sdk.js'

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
