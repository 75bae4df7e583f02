/** What may be expected while something is wrong, and how soon everything is in order again. */
import type { World } from './world.js'

/** How long a node may go by what it was not told, in ms: the handler's bound, and one answer of the backend. */
export const STALENESS = 6500
/**
 * How long after trouble everything is in order again: the heartbeat of a node that died has run out, and the store has
 * answered for as long again, before which nobody is taken for dead.
 */
const RECOVERY = 12_000

export class Trouble {
  #endedAt = Number.NEGATIVE_INFINITY
  /** Whether the store was ever in trouble. */
  store = false

  constructor(private readonly world: World) {}

  /** To be called whenever trouble may have begun or ended. */
  look(): void {
    const { network, clock, nodes } = this.world
    this.#endedAt = Math.max(this.#endedAt, this.world.troubledAt)
    if (nodes.some(({ state }) => state === 'paused' || state === 'draining')) this.#endedAt = clock.now
    if (network.store !== 'none' || network.cutOff.size > 0) this.store = true
    if (network.troubled) this.#endedAt = clock.now
  }

  /** Whether a node may have died, or the store been away, before it had stored how far it sent a stream. */
  mayHaveForgotten(time: number): boolean {
    this.look()
    return this.store || this.world.troubledAt + RECOVERY > time
  }

  /** Whether nothing has gone wrong since then, nor shortly before. */
  calmSince(time: number): boolean {
    this.look()
    return this.#endedAt + RECOVERY <= time
  }
}
