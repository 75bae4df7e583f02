/** How many child processes a node may have, those included that are being started or are still ending. */
import { Refusal } from '../../wire/refusal.js'

/** How long to wait for a child that is ending, in ms: longer than one takes that must be killed (see stdio-server.ts). */
const PATIENCE = 6_000

export class ChildPlaces {
  #taken = 0
  /** Who waits for a place, first come, first served. */
  readonly #waiting = new Set<() => void>()

  constructor(private readonly max: number) {}

  /**
   * Resolves when there is a place, with the way to give it back.
   *
   * @throws Refusal if no child ends in time.
   */
  async take(): Promise<() => void> {
    if (this.#taken >= this.max) await this.#turn()
    else this.#taken++
    return () => this.#giveBack()
  }

  /** Resolves when a place was handed over by whoever had it. */
  #turn(): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = () => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(turn)
        reject(new Refusal('full'))
      }, PATIENCE)
      this.#waiting.add(turn)
    })
  }

  #giveBack(): void {
    const [next] = this.#waiting
    if (!next) {
      this.#taken--
      return
    }
    this.#waiting.delete(next)
    next()
  }
}
