/**
 * Which session a request names: the one place where ids that clients send are looked up in the store. Ids that none of ours can
 * have are not, and those that turn out to be of no session have their pace, however many come.
 *
 * What was not found is looked for again: an id may be that of a session the next moment, made by another node. But those who ask
 * again wait among themselves, for one good id of a session that has ended would else be enough to keep everybody waiting.
 */
import type { SessionStore, StoredSession } from '../backend/backend.js'
import { Crowded, Turns } from '../util/turns.js'
import { Refusal } from '../wire/refusal.js'
import type { ProvenPrincipal } from './principal.js'
import { type SessionIdOptions, SessionIds } from './session-ids.js'

/** So many misses come at once, if there were none for long, as otherwise in so many seconds. */
const BURST_SECONDS = 5
/** How long a look-up waits for its turn, in ms. */
const PATIENCE = 10_000
/** So many look-ups are on their way at a time: clients that all come back at once have theirs in turn. */
const MAX_AT_ONCE = 500
/** So many wait, which is more clients than a node has. */
const MAX_WAITING = 20_000
/** So many refusals wait that need no look-up. */
const MAX_REFUSALS = 1000
/** So many misses are remembered. */
const MAX_MISSED = 10_000

export interface LookUpsOptions extends SessionIdOptions {
  /** How many misses a second have their turn. */
  readonly limits: { readonly misses: number }
}

export interface LookUpsHost {
  readonly store: Pick<SessionStore, 'load'>
  /** Whether the session is live here: then its id is one of ours, and asking for it needs no turn. */
  isLive(id: string): boolean
}

interface Load {
  /** Of all loads and all who ask, in the order in which they came. */
  number: number
  stored: Promise<StoredSession | undefined>
}

export class LookUps {
  readonly ids: SessionIds
  /** For what may be found. Only misses are spent. */
  readonly #asked: Turns
  /** For what was asked for before in vain. */
  readonly #askedAgain: Turns
  /** Ids that were none for somebody when they last asked, oldest first. */
  readonly #missed = new Set<string>()
  /** For ids that cannot be ours. They keep nobody waiting who has a session. */
  readonly #impossible: Turns
  readonly #loads = new Map<string, Load>()
  #count = 0

  constructor(
    private readonly host: LookUpsHost,
    options: LookUpsOptions,
  ) {
    this.ids = new SessionIds(options)
    const { misses } = options.limits
    const pace = { rate: misses, burst: misses * BURST_SECONDS, patience: PATIENCE }
    this.#asked = new Turns({ ...pace, atOnce: MAX_AT_ONCE, waiting: MAX_WAITING })
    this.#askedAgain = new Turns({ ...pace, atOnce: MAX_AT_ONCE, waiting: MAX_REFUSALS })
    this.#impossible = new Turns({ ...pace, atOnce: Number.POSITIVE_INFINITY, waiting: MAX_REFUSALS })
  }

  /**
   * Asks for the session of a request, in its turn.
   *
   * @param ask Undefined: there is none for this request, which counts as a miss.
   * @throws Refusal if too many ask.
   */
  async find<T>(id: string, who: ProvenPrincipal, ask: () => Promise<T | undefined>): Promise<T | undefined> {
    if (this.host.isLive(id)) {
      const found = await ask()
      if (found === undefined) await this.miss(id, who)
      return found
    }
    if (!this.ids.isPossible(id)) return await inTurn(this.#impossible, async () => undefined)
    return await this.#ask(id, who, ask)
  }

  /** A miss that needs no look-up: somebody asks for a session that is live here, and not theirs. */
  async miss(id: string, who: ProvenPrincipal): Promise<void> {
    await this.#ask(id, who, async () => undefined)
  }

  /** The session as it is stored, asked for once for all who ask at the same time. */
  async load(id: string): Promise<StoredSession | undefined> {
    const asked = this.#count++
    for (;;) {
      const load = this.#loads.get(id) ?? this.#begin(id)
      const stored = await load.stored
      // The session may have been stored since the store was asked by somebody who came before.
      if (stored || load.number > asked) return stored
    }
  }

  async #ask<T>(id: string, who: ProvenPrincipal, ask: () => Promise<T | undefined>): Promise<T | undefined> {
    // What is none for one may be another one's, who must not have to wait for that.
    const asked = `${id} ${String(who)}`
    const found = await inTurn(this.#missed.has(asked) ? this.#askedAgain : this.#asked, ask)
    this.#missed.delete(asked)
    if (found === undefined) this.#missed.add(asked)
    const [oldest] = this.#missed
    if (oldest !== undefined && this.#missed.size > MAX_MISSED) this.#missed.delete(oldest)
    return found
  }

  #begin(id: string): Load {
    const stored = this.host.store.load(id).finally(() => this.#loads.delete(id))
    const load = { number: this.#count++, stored }
    this.#loads.set(id, load)
    return load
  }
}

async function inTurn<T>(turns: Turns, ask: () => Promise<T | undefined>): Promise<T | undefined> {
  try {
    const turn = turns.take()
    if (turn) await turn
  } catch (error) {
    throw error instanceof Crowded ? new Refusal('busy') : error
  }
  let missed = false
  try {
    const found = await ask()
    missed = found === undefined
    return found
  } finally {
    turns.end(missed)
  }
}
