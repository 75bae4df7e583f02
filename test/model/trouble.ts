/** What may be expected while something is wrong, and how soon everything is in order again. */
import type { Owner } from './clock.js'
import { tookLeave, type World } from './world.js'

/** How long a node may go by what it was not told, in ms: the handler's bound, and one answer of the backend. */
export const STALENESS = 6500
/**
 * How long after trouble everything is in order again: the heartbeat of a node that died has run out, and the store has
 * answered for as long again, before which nobody is taken for dead.
 */
const RECOVERY = 12_000
/** How long after an event was sent the log knows so, in ms: put off, and on its way. */
const SENT_WITHIN = 600
/** The same after the store was away: a call that hangs until it is given up, and tried again. */
const SENT_AGAIN_WITHIN = 1700

/** Something that a client was sent. */
export interface Heard {
  at: number
  /** Who sent it. */
  owner: Owner
}

/** What is wrong with one node, or with all. */
interface Spell {
  of: Owner | 'the store' | 'the bus'
  from: number
  to: number
}

export class Trouble {
  #endedAt = Number.NEGATIVE_INFINITY
  /** Whether the store was ever in trouble. */
  store = false

  readonly #spells: Spell[] = []

  constructor(private readonly world: World) {}

  /** To be called whenever trouble may have begun or ended. */
  look(): void {
    const { network, clock, nodes } = this.world
    this.#endedAt = Math.max(this.#endedAt, this.world.troubledAt)
    if (nodes.some(({ state }) => state === 'paused' || state === 'draining')) this.#endedAt = clock.now
    if (network.store !== 'none' || network.cutOff.size > 0) this.store = true
    if (network.troubled) this.#endedAt = clock.now
    const { store, loss, duplication, cutOff } = network
    this.#note('the store', store !== 'none')
    this.#note('the bus', loss > 0 || duplication > 0)
    for (const { owner, state } of nodes) this.#note(owner, state !== 'up' || cutOff.has(owner))
  }

  /**
   * Whether a client that does not say what it has may be sent this again: its node cannot be asked, and may not have told the
   * log. In good weather it is asked; else the log knows a moment later, unless the node dies within it or cannot reach it.
   */
  mayBeSentAgain(heard: Heard): boolean {
    this.look()
    if (this.#isWell(heard.at, this.world.clock.now)) return false
    return !this.#isKept(heard)
  }

  /** Whether the log knows that this was sent. */
  #isKept({ at, owner }: Heard): boolean {
    const until = Math.min(this.world.clock.now, owner.diedAt)
    if (tookLeave(owner) && this.#isWell(at, until, ['the store'])) return true
    const wrong = ['the store', owner] as const
    if (at + SENT_WITHIN <= until && this.#isWell(at, at + SENT_WITHIN, wrong)) return true
    const clearings = this.#spells
      .filter(({ of, to }) => to > at && wrong.some((one) => one === of))
      .map(({ to }) => to)
    return clearings.some(
      (from) => from + SENT_AGAIN_WITHIN <= until && this.#isWell(from + 1, from + SENT_AGAIN_WITHIN, wrong),
    )
  }

  /** Whether nothing was wrong, or nothing with these, in all this time. */
  #isWell(from: number, to: number, what?: readonly Spell['of'][]): boolean {
    return !this.#spells.some((spell) => (what?.includes(spell.of) ?? true) && spell.from <= to && spell.to >= from)
  }

  /** A spell lasts until it is seen to be over. */
  #note(of: Spell['of'], wrong: boolean): void {
    const { now } = this.world.clock
    const last = this.#spells.findLast((spell) => spell.of === of)
    if (last?.to === Number.POSITIVE_INFINITY) {
      if (!wrong) last.to = now
    } else if (wrong) this.#spells.push({ of, from: now, to: Number.POSITIVE_INFINITY })
  }

  /** Whether nothing has gone wrong since then, nor shortly before. */
  calmSince(time: number): boolean {
    this.look()
    return this.#endedAt + RECOVERY <= time
  }
}
