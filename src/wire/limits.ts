/** What one client, one session and one node may ask for: the limits, their defaults in one table, and their checks. */

/**
 * How much may be asked of a node. What is over a limit is refused and changes nothing; each line says with which status.
 * `Infinity` is no limit.
 */
export interface Limits {
  /** Messages in one JSON-RPC batch (2025-03-26, basic, "Batching"). Over it: 400. Default 100. */
  batch: number
  /** Levels of arrays and objects within each other in a body. Over it: 400. Default 128. */
  depth: number
  /** Characters of a JSON-RPC id, or of a progress token. Over it: 400. Default 1,024. */
  id: number
  /** Characters of each header that is read. Over it: 431. Default 4,096. Node itself refuses 16 KiB of headers. */
  header: number
  /** Characters of what a client says of itself in `initialize`, as JSON; it is kept in the session record. Over it: 413. Default 65,536. */
  initialize: number
  /** Characters of the URIs of all subscriptions of a session; they are kept in its record. Over it: 400. Default 262,144. */
  subscriptions: number
  /** Requests of one session that run on this node. Over it: 429; a batch that has more by itself: 400. Default 256. */
  requests: number
  /**
   * SSE connections of one session that are open on this node. Over it a GET gets 429, and a POST its answer as JSON; a newer
   * connection of a stream still replaces the older one. Default 64.
   */
  streams: number
  /** The same, of all sessions. Over it a GET gets 503. Default 20,000. */
  allStreams: number
  /**
   * Sessions of one principal that are live on this node. Over it idle ones are dropped from memory; when none is idle: 429.
   * Not applied to anonymous ones. Default 1,000.
   */
  principal: number
  /**
   * Requests a second that name a session that is not theirs, unknown or foreign ones; five times as many may come at once. Over
   * it such requests wait for their turn, and those that wait for 10 s: 503. Default 250.
   */
  misses: number
  /** Characters of one message of the server. A longer answer becomes an error; `send` rejects what is no answer. Default 16 Mi. */
  event: number
  /** Keys of one session's state. Over it: `state.set` rejects. Default 1,000. */
  stateKeys: number
  /** Characters of all keys and values of one session's state. Over it: `state.set` rejects. Default 4 Mi. */
  state: number
}

const KI = 1024
const MI = KI * KI

const DEFAULT_LIMITS: Readonly<Limits> = {
  batch: 100,
  depth: 128,
  id: KI,
  header: 4 * KI,
  initialize: 64 * KI,
  subscriptions: 256 * KI,
  requests: 256,
  streams: 64,
  allStreams: 20_000,
  principal: 1000,
  misses: 250,
  event: 16 * MI,
  stateKeys: 1000,
  state: 4 * MI,
}

/** @throws TypeError for a limit that is unknown, or no whole number of at least 1. */
export function resolveLimits(given: Partial<Limits> = {}): Readonly<Limits> {
  for (const [name, value] of Object.entries(given)) {
    if (!(name in DEFAULT_LIMITS)) {
      throw new TypeError(`limits.${name} is not known; there are ${Object.keys(DEFAULT_LIMITS).join(', ')}`)
    }
    if (value === undefined || value === Number.POSITIVE_INFINITY) continue
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new TypeError(`limits.${name} must be a whole number of at least 1, or Infinity, not ${String(value)}`)
    }
  }
  const set = Object.entries(given).filter(([, value]) => value !== undefined)
  return { ...DEFAULT_LIMITS, ...Object.fromEntries(set) }
}
