/** The options of handler and transport: their types, their defaults in one table, and their checks. */
import { randomUUID } from 'node:crypto'
import type { Backend } from './backend/backend.js'
import { type Encryption, Keyring } from './backend/sealed/keyring.js'
import type { GuardOptions } from './http/guard.js'
import type { ResponseMode } from './session/exchange.js'
import type { SessionHooks } from './session/session.js'
import { type Limits, resolveLimits } from './wire/limits.js'
import type { AuthInfo } from './wire/sdk.js'

/** How sessions behave on the wire. */
export interface WireOptions extends GuardOptions {
  /**
   * How requests are answered (2025-11-25, basic/transports, "Sending Messages to the Server").
   *
   * - `auto` (default): as JSON, if the answer is the first thing the handler produces and comes within `upgradeAfter`, else
   *   as an SSE stream.
   * - `sse`: always as a stream.
   * - `json`: always as JSON. What a handler sends besides its answer goes to the standalone stream.
   */
  responseMode?: ResponseMode
  /**
   * How long `auto` waits for an answer before it opens a stream, in ms. Default 100. A longer wait saves the stream, about
   * 0.3 ms of work; but a call without a stream is lost if its node dies.
   */
  upgradeAfter?: number
  /**
   * How long a request may be unanswered while nothing is said on its behalf (progress, or any message that belongs to it), in
   * ms. Then its handler is told that it is cancelled, and its client gets an error with `reason: 'timed-out'` in its `data`.
   * While the client owes an answer to a question of the handler, it may take longer. Default: `Infinity`, no limit.
   */
  silence?: number
  /** Interval of SSE comments that keep proxies from closing quiet streams, in ms. Default 15,000; 0: none. */
  keepAlive?: number
  /**
   * How long clients are told to wait before they reconnect, in ms: the SSE field `retry` (2025-11-25, basic/transports,
   * "Sending Messages to the Server"). Each is told up to half as much again, so that not all come back at once. Default 1,000.
   */
  retryInterval?: number
  /**
   * Bytes that are written ahead to a slow reader; the rest waits in the event log. A reader that takes nothing of them for
   * 2 s is disconnected, and can resume from the log. Default 1 MiB.
   */
  maxBuffered?: number
  /**
   * Bytes of a POST body; a longer one is answered 413. Default 4 MiB. Not applied to a body that the host program has parsed.
   */
  maxBodySize?: number
  /**
   * How much else may be asked of this node. Default: see {@link Limits}.
   *
   * @example
   * limits: { requests: 50, initialize: 16_384 }
   */
  limits?: Partial<Limits>
  /**
   * Whom a request comes from. A session belongs to the principal that initialized it, kept as a salted hash; requests of
   * any other are answered 404. Undefined: anonymous. Called for each request; if it throws, the answer is 500.
   * Default: client id and subject (`extra.sub`) of the verified `authInfo`.
   *
   * @example
   * principal: (authInfo) => authInfo && `${authInfo.extra?.tenant}/${authInfo.extra?.sub}`
   */
  principal?(authInfo: AuthInfo | undefined, request: Request): string | undefined | Promise<string | undefined>
  /**
   * Whether a request may run again if its node died before it was answered: on the node that its client turns to. If not,
   * the client gets an error with `reason: 'outcome-unknown'` in its `data`. `safe` is what holds without this option: true
   * for requests that only read, and for calls of tools annotated `readOnlyHint` or `idempotentHint` (2025-11-25, schema,
   * "ToolAnnotations"). If it throws, the request does not run again.
   *
   * @example
   * mayRepeat: (request, safe) => safe || request.params?.name === 'search'
   */
  mayRepeat?(request: { method: string; params?: Record<string, unknown> | undefined }, safe: boolean): boolean
  /**
   * Called with errors that no request can be answered with, and with the causes of those answered 500 or 503, which clients
   * are not told. Default: ignored.
   */
  onerror?(error: Error): void
}

/** How sessions are kept. */
export interface SessionOptions {
  /**
   * Where sessions live. Default: `memory()`, which survives nothing. A backend made with only a session store restores
   * sessions anywhere, and keeps streams and routing on their node.
   *
   * @example
   * backend: sqlite({ file: 'sessions.db' })
   */
  backend?: Backend
  /**
   * Encrypts what is in the backend, and what nodes tell each other, with AES-256-GCM. Ids, names and times stay in the open.
   * What does not open with one of the keys is answered 503 and told to `onerror`. Default: plain text.
   *
   * @example
   * encryption: { keys: (process.env.SESSION_KEYS ?? '').split(',') }
   */
  encryption?: Encryption
  /**
   * Makes the id of a new session: up to 256 characters of visible ASCII, unguessable, never the same twice (2025-11-25,
   * basic/transports, "Session Management"). Default: `crypto.randomUUID`. `initialize` is answered 500 for an id of other
   * characters, and 503 for one that was used before.
   */
  sessionIdGenerator?(): string
  /**
   * Signs session ids: a new one is what `sessionIdGenerator` made, a dot, and 24 characters of HMAC-SHA-256. An id without a good
   * signature is answered 404, and the store is not asked. Each is of at least 32 characters, the same on all nodes. Of several the
   * first signs, and any verifies. Default: none, ids are not signed.
   *
   * @example
   * secret: process.env.SESSION_SECRET // openssl rand -base64 32
   */
  secret?: string | readonly string[]
  /**
   * With `secret`: whether ids without a good signature are looked up in the store all the same. For sessions from before there was a
   * secret, or whose secret is not in the list any more. Default false.
   */
  acceptUnsigned?: boolean
  /** A session without requests and open streams is forgotten after this, in ms; then 404. Default 7 days. */
  idleTtl?: number
  /** A session is forgotten this long after its `initialize`, used or not, in ms; then 404. Default: never. */
  maxAge?: number
  /** Longest wait for one answer of the backend, in ms; then 503. Default 5,000. */
  backendTimeout?: number
}

/** Options of `createSessionHandler`; none is required. */
export interface SessionHandlerOptions extends SessionOptions, WireOptions, SessionHooks {
  /**
   * A live session without running requests and open streams is dropped from memory after this, in ms; the next request
   * restores it. Default 5 minutes. 0: at once; `Infinity`: never.
   */
  liveIdle?: number
  /**
   * Live sessions, those being built included. For one more the least recently used idle one is dropped from memory; if none
   * is idle, a new session or a restore is refused (503). Requests of sessions that are live here always pass. Default 10,000.
   */
  maxLiveSessions?: number
}

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE
const MIB = 1024 * 1024

const MIN_SECRET_LENGTH = 32

/** Values of options that are not given. Times in ms, sizes in bytes. */
const DEFAULTS = {
  responseMode: 'auto' as ResponseMode,
  upgradeAfter: 100,
  silence: Number.POSITIVE_INFINITY,
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
  silence: 1,
  keepAlive: 0,
  retryInterval: 0,
  maxBuffered: 1,
  maxBodySize: 1,
}

/** The options with their defaults filled in. */
export interface ResolvedOptions extends Readonly<typeof DEFAULTS>, GuardOptions {
  readonly limits: Readonly<Limits>
  readonly backend: Backend | undefined
  readonly keyring: Keyring
  readonly maxAge: number | undefined
  readonly sessionIdGenerator: () => string
  readonly secrets: readonly string[]
  readonly acceptUnsigned: boolean
  readonly principal: WireOptions['principal']
  readonly mayRepeat: WireOptions['mayRepeat']
  /** The options object itself: its hooks may be methods that use `this`. */
  readonly hooks: SessionHooks
  readonly onerror: (error: Error) => void
}

/** @throws TypeError for an option whose value cannot be right; the message says what it must be. */
export function resolveOptions(options: SessionHandlerOptions): ResolvedOptions {
  checkNumbers(options)
  checkChoices(options)
  const { allowedOrigins, allowedHosts } = options
  return {
    responseMode: options.responseMode ?? DEFAULTS.responseMode,
    upgradeAfter: options.upgradeAfter ?? DEFAULTS.upgradeAfter,
    silence: options.silence ?? DEFAULTS.silence,
    keepAlive: options.keepAlive ?? DEFAULTS.keepAlive,
    retryInterval: options.retryInterval ?? DEFAULTS.retryInterval,
    maxBuffered: options.maxBuffered ?? DEFAULTS.maxBuffered,
    maxBodySize: options.maxBodySize ?? DEFAULTS.maxBodySize,
    idleTtl: options.idleTtl ?? DEFAULTS.idleTtl,
    backendTimeout: options.backendTimeout ?? DEFAULTS.backendTimeout,
    liveIdle: options.liveIdle ?? DEFAULTS.liveIdle,
    maxLiveSessions: options.maxLiveSessions ?? DEFAULTS.maxLiveSessions,
    limits: resolveLimits(options.limits),
    backend: options.backend,
    keyring: new Keyring(options.encryption),
    maxAge: options.maxAge,
    sessionIdGenerator: options.sessionIdGenerator ?? randomUUID,
    secrets: secretsOf(options),
    acceptUnsigned: options.acceptUnsigned ?? false,
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

/** @throws TypeError for secrets that cannot be right; the message repeats nothing of them. */
export function secretsOf({
  secret,
  acceptUnsigned,
}: Pick<SessionHandlerOptions, 'secret' | 'acceptUnsigned'>): readonly string[] {
  if (acceptUnsigned !== undefined && typeof acceptUnsigned !== 'boolean') {
    throw new TypeError(`acceptUnsigned must be true or false, not ${String(acceptUnsigned)}`)
  }
  if (secret === undefined) return []
  const secrets: readonly unknown[] = Array.isArray(secret) ? [...secret] : [secret]
  const isSecret = (one: unknown) => typeof one === 'string' && one.length >= MIN_SECRET_LENGTH
  if (secrets.length > 0 && secrets.every(isSecret)) return secrets as readonly string[]
  const problem = `secret must have at least ${MIN_SECRET_LENGTH} characters, and a list of them at least one`
  throw new TypeError(`${problem}; make one with: openssl rand -base64 32`)
}

function checkChoices({ responseMode, backend }: SessionHandlerOptions): void {
  if (responseMode !== undefined && !['auto', 'sse', 'json'].includes(responseMode)) {
    throw new TypeError(`responseMode must be 'auto', 'sse' or 'json', not ${String(responseMode)}`)
  }
  if (backend !== undefined && typeof backend.sessions?.load !== 'function') {
    throw new TypeError("backend must be a backend, e.g. sqlite({ file: 'sessions.db' }), or { sessions: yourStore }")
  }
}
