/** The options of handler and transport: their types, their defaults in one table, and their checks. */
import { randomUUID } from 'node:crypto'
import type { Backend } from './backend/backend.js'
import type { GuardOptions } from './http/guard.js'
import type { ResponseMode } from './session/exchange.js'
import type { SessionHooks } from './session/session.js'
import type { AuthInfo } from './wire/sdk.js'

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

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE
const MIB = 1024 * 1024

/** What holds where an option is not given. Times in ms, sizes in bytes. */
export const DEFAULTS = {
  responseMode: 'auto' as ResponseMode,
  upgradeAfter: 100,
  keepAlive: 15_000,
  retryInterval: 1000,
  maxBuffered: MIB,
  maxBodySize: 4 * MIB,
  idleTtl: 7 * DAY,
  backendTimeout: 5000,
  liveIdle: 5 * MINUTE,
  maxLiveSessions: 10_000,
}

/** The smallest value of each option that is a number. */
const LEAST: Partial<Record<keyof SessionHandlerOptions, number>> = {
  idleTtl: 1,
  maxAge: 1,
  backendTimeout: 1,
  liveIdle: 0,
  maxLiveSessions: 1,
  upgradeAfter: 0,
  keepAlive: 0,
  retryInterval: 0,
  maxBuffered: 1,
  maxBodySize: 1,
}

/** Options with nothing left open. */
export interface ResolvedOptions extends Readonly<typeof DEFAULTS>, GuardOptions {
  readonly backend: Backend | undefined
  readonly maxAge: number | undefined
  readonly sessionIdGenerator: () => string
  readonly principal: WireOptions['principal']
  readonly mayRepeat: WireOptions['mayRepeat']
  /** The options as they were given: hooks may be methods that use `this`. */
  readonly hooks: SessionHooks
  readonly onerror: (error: Error) => void
}

/** @throws TypeError for an option that cannot be right; the message says what to write instead. */
export function resolveOptions(options: SessionHandlerOptions): ResolvedOptions {
  checkNumbers(options)
  checkChoices(options)
  const { allowedOrigins, allowedHosts } = options
  return {
    responseMode: options.responseMode ?? DEFAULTS.responseMode,
    upgradeAfter: options.upgradeAfter ?? DEFAULTS.upgradeAfter,
    keepAlive: options.keepAlive ?? DEFAULTS.keepAlive,
    retryInterval: options.retryInterval ?? DEFAULTS.retryInterval,
    maxBuffered: options.maxBuffered ?? DEFAULTS.maxBuffered,
    maxBodySize: options.maxBodySize ?? DEFAULTS.maxBodySize,
    idleTtl: options.idleTtl ?? DEFAULTS.idleTtl,
    backendTimeout: options.backendTimeout ?? DEFAULTS.backendTimeout,
    liveIdle: options.liveIdle ?? DEFAULTS.liveIdle,
    maxLiveSessions: options.maxLiveSessions ?? DEFAULTS.maxLiveSessions,
    backend: options.backend,
    maxAge: options.maxAge,
    sessionIdGenerator: options.sessionIdGenerator ?? randomUUID,
    principal: options.principal,
    mayRepeat: options.mayRepeat,
    hooks: options,
    onerror: (error) => options.onerror?.(error),
    ...(allowedOrigins && { allowedOrigins }),
    ...(allowedHosts && { allowedHosts }),
  }
}

function checkNumbers(options: SessionHandlerOptions): void {
  for (const [name, least] of Object.entries(LEAST)) {
    const value: unknown = options[name as keyof SessionHandlerOptions]
    if (value === undefined) continue
    if (typeof value !== 'number' || Number.isNaN(value) || value < least) {
      throw new TypeError(`${name} must be a number of at least ${least}, not ${String(value)}`)
    }
  }
}

function checkChoices({ responseMode, backend }: SessionHandlerOptions): void {
  if (responseMode !== undefined && !['auto', 'sse', 'json'].includes(responseMode)) {
    throw new TypeError(`responseMode must be 'auto', 'sse' or 'json', not ${String(responseMode)}`)
  }
  if (backend !== undefined && typeof backend.sessions?.load !== 'function') {
    throw new TypeError("backend must be a backend, e.g. sqlite({ file: 'sessions.db' }), or { sessions: yourStore }")
  }
}
