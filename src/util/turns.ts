/** Lets work begin in the order in which it came: so much at a time, and so often. */
import { monotonic } from './clock.js'

export interface TurnsOptions {
  /** So many turns a second can be spent for good. `Infinity`: as many as may be. */
  rate: number
  /** So many can be spent at once, if none was for long. */
  burst: number
  /** So many turns are taken and not ended, at most. */
  atOnce: number
  /** So many wait for theirs, at most. */
  waiting: number
  /** The longest that one may wait, in ms. */
  patience: number
}

/** A turn was not to be had in time: too many wait already. */
export class Crowded extends Error {
  override readonly name = 'Crowded'
}

interface Waiter {
  since: number
  go(): void
  giveUp(): void
}

/**
 * A token bucket and a queue. A turn takes a token, and gives it back at its end if it was well spent: so a rate is set to what
 * comes of the work, which is not known before it is done.
 */
export class Turns {
  readonly #queue: Waiter[] = []
  #tokens: number
  #filledAt = monotonic()
  #taken = 0
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly options: TurnsOptions) {
    this.#tokens = options.burst
  }

  /**
   * Undefined: go on at once, which the caller does without waiting for anything. Each turn that was had must be ended.
   *
   * @throws Crowded if too many wait; the promise rejects with it, too.
   */
  take(): Promise<void> | undefined {
    if (this.#queue.length === 0 && this.#mayBegin()) {
      this.#begin()
      return undefined
    }
    this.#giveUpOld()
    if (this.#queue.length >= this.options.waiting) throw new Crowded('too many wait')
    return new Promise((resolve, reject) => {
      this.#queue.push({
        since: monotonic(),
        go: resolve,
        giveUp: () => reject(new Crowded('waited for too long')),
      })
      this.#next()
    })
  }

  /** @param spent Whether the turn counts against the rate. */
  end(spent: boolean): void {
    this.#taken--
    if (!spent) this.#tokens = Math.min(this.options.burst, this.#tokens + 1)
    this.#next()
  }

  #mayBegin(): boolean {
    const { rate, burst, atOnce } = this.options
    const now = monotonic()
    if (this.#tokens < burst) this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filledAt) / 1000) * rate)
    this.#filledAt = now
    return this.#tokens >= 1 && this.#taken < atOnce
  }

  #begin(): void {
    this.#tokens--
    this.#taken++
  }

  #next(): void {
    this.#giveUpOld()
    while (this.#queue.length > 0 && this.#mayBegin()) {
      this.#begin()
      this.#queue.shift()?.go()
    }
    // If it is no token that is lacking, the next turn that ends has its place taken.
    if (this.#queue.length === 0 || this.#timer || this.#tokens >= 1) return
    const wait = ((1 - this.#tokens) / this.options.rate) * 1000
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.#next()
      },
      Math.max(1, wait),
    )
  }

  #giveUpOld(): void {
    const { patience } = this.options
    const now = monotonic()
    for (let first = this.#queue[0]; first && now - first.since > patience; first = this.#queue[0]) {
      this.#queue.shift()
      first.giveUp()
    }
  }
}
