/** A session as users' code sees it: in handlers, in hooks, and from outside. */
import type { AuthInfo, ServerInstance } from '../wire/sdk.js'

/**
 * JSON values that belong to a session: visible on every node, gone when the session is. Each call asks the backend.
 *
 * All methods reject if the session store keeps no state, the backend is away, or the key begins with `mcp-roam:`.
 *
 * @example
 * const calls = await currentSession().state.update('calls', (n: number = 0) => n + 1)
 */
export interface SessionState {
  /** The value under a key; undefined if there is none. */
  get<T = unknown>(key: string): Promise<T | undefined>
  /**
   * Sets a value, whatever was there.
   *
   * @throws TypeError if the value is not JSON.
   * @throws RangeError if its JSON text has more than 1,048,576 characters, or with it the session would have more state than the
   * options `limits.stateKeys` and `limits.state` allow. A value that becomes no longer is never refused for that.
   * @throws Error if the session is not stored: it was deleted, has expired, or is new and still with the factory.
   */
  set(key: string, value: unknown): Promise<void>
  /**
   * Removes a value, if there is one.
   *
   * @throws Error if the session is not stored.
   */
  delete(key: string): Promise<void>
  /**
   * Replaces a value by what `change` makes of it, atomically across nodes; `change` may run more than once, so it should
   * only compute. Returning undefined removes the value. Resolves with the new value.
   *
   * @throws TypeError, RangeError or Error as `set` does; and what `change` throws.
   * @example
   * const cart = await state.update('cart', (items: string[] = []) => [...items, item])
   */
  update<T = unknown>(key: string, change: (value: T | undefined) => T | undefined): Promise<T | undefined>
}

/** A session, as stored. */
export interface SessionInfo {
  /** The session id: the client's `Mcp-Session-Id` (2025-11-25, basic/transports, "Session Management"). */
  readonly id: string
  /** When its `initialize` came. */
  readonly createdAt: Date
  /**
   * The negotiated protocol version (2025-11-25, basic/lifecycle, "Version Negotiation"). In the factory of a new session,
   * before the server has answered: the version that the client asked for.
   */
  readonly protocolVersion: string
  /** What the client said of itself in `initialize`; undefined if it said nothing. */
  readonly clientInfo: { name: string; version: string; [key: string]: unknown } | undefined
  /** The client's capabilities, as it sent them in `initialize` (2025-11-25, basic/lifecycle, "Capability Negotiation"). */
  readonly clientCapabilities: Record<string, unknown>
  /** URIs that the client is subscribed to, oldest first (2025-11-25, server/resources, "Subscriptions"). */
  readonly subscriptions: readonly string[]
}

/** A session, as the code that serves it sees it. Its properties follow the stored session as it changes. */
export interface Session extends SessionInfo {
  /** Whether this server instance was built for a session that existed before, and not for a client's `initialize`. */
  readonly restored: boolean
  /** Whom the session belongs to, as the option `principal` named it; undefined: anonymous. */
  readonly principal: string | undefined
  /** JSON values that belong to the session. */
  readonly state: SessionState
}

/** The HTTP request that caused a call of the factory or of a hook. */
export interface RequestContext {
  /** The verified auth of this request, not of the one that initialized the session; undefined: none. */
  readonly authInfo: AuthInfo | undefined
  /** The request, without its body. */
  readonly request: Request
}

/** What the factory gets. */
export interface FactoryContext extends RequestContext {
  /** The session that the server instance will serve. In the factory of a new session its `state` is not there yet. */
  readonly session: Session
  /** False for a client's `initialize`, true when an existing session gets a new instance. */
  readonly restored: boolean
}

/**
 * Builds the server instance of one session; a new one at each call. If it throws, the request is answered 500.
 *
 * @example
 * const factory: ServerFactory = ({ session, restored }) => {
 *   console.log(restored ? 'restored' : 'new', session.id)
 *   return buildServer()
 * }
 */
export type ServerFactory = (context: FactoryContext) => ServerInstance | Promise<ServerInstance>

/**
 * Why a session is over. `deleted`: by the client's DELETE or `sessions.delete`, told only on the node that did it. `gone`:
 * a node that had the session live found it missing in the store, because it was deleted elsewhere or has expired.
 */
export type CloseReason = 'deleted' | 'gone'

/**
 * Called at the turns of a session's life. Each may be async. One that throws fails the request that it was called for
 * (500), and leaves nothing half-made.
 */
export interface SessionHooks {
  /**
   * Called before each new session is begun: resolves with the milliseconds that the client should wait, which is answered
   * 429 with `Retry-After`; 0 or undefined: it may go on.
   *
   * @example
   * rateLimit: ({ authInfo }) => waitOf(authInfo?.clientId ?? 'anonymous') // e.g. by `rate-limiter-flexible`
   */
  rateLimit?(context: RequestContext): number | undefined | Promise<number | undefined>
  /**
   * Called when a client has a new session: its record is stored, its id not yet given out. If it throws, the session is
   * removed.
   *
   * @example
   * onSessionInitialized: (session, { authInfo }) => session.state.set('scopes', authInfo?.scopes ?? [])
   */
  onSessionInitialized?(session: Session, context: RequestContext): void | Promise<void>
  /**
   * Whether this request may restore the session on this node; false is answered like an unknown session (404). Asked also
   * before the DELETE of a session that is not live here. Not asked for each request: requests that wait for the same restore
   * share its verdict, and those of a session that is live here need none.
   *
   * @example
   * authorizeRestore: (session, { authInfo }) => authInfo?.scopes.includes('mcp') ?? false
   */
  authorizeRestore?(session: SessionInfo, context: RequestContext): boolean | Promise<boolean>
  /**
   * Called when a new instance has replayed what the client told its predecessors, and is about to serve its first request.
   * If it throws, the instance is dropped.
   */
  onSessionRestored?(session: Session, context: RequestContext): void | Promise<void>
  /**
   * Called when the session is over; if it throws, it is over all the same. Not called when a node drops a live session from
   * memory, which may be restored at any time, nor when a session expires that is live nowhere.
   */
  onSessionClosed?(session: SessionInfo, reason: CloseReason): void | Promise<void>
}
