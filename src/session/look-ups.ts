/**
 * Which session a request names: the one place where ids that clients send are looked up in the store. Ids that none of ours can
 * have are not, and those that turn out to be of no session have their pace, however many come.
 *
 * Nothing is remembered of what was not found: an id may be that of a session the next moment, made by another node.
 */
import type { SessionStore, StoredSession } from '../backend/backend.js'
import { Crowded, Turns } from '../util/turns.js'
import { Refusal } from '../wire/refusal.js'
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
    this.#impossible = new Turns({ ...pace, atOnce: Number.POSITIVE_INFINITY, waiting: MAX_REFUSALS })
  }

  /**
   * Asks for the session of a request, in its turn.
   *
   * @param ask Undefined: there is none for this request, which counts as a miss.
   * @throws Refusal if too many ask.
   */
  async find<T>(id: string, ask: () => Promise<T | undefined>): Promise<T | undefined> {
    if (this.host.isLive(id)) {
      const found = await ask()
      if (found === undefined) await this.miss()
      return found
    }
    if (!this.ids.isPossible(id)) return await inTurn(this.#impossible, async () => undefined)
    return await inTurn(this.#asked, ask)
  }

  /** A miss that needs no look-up: somebody asks for a session that is live here, and not theirs. */
  async miss(): Promise<void> {
    await inTurn(this.#asked, async () => undefined)
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
