/**
 * One timer for many deadlines that are all equally far away. A timer for each short call would cost more than the rest of
 * what is done here for it, and hardly any of them ever fires.
 */

import { monotonic } from '../util/clock.js'
import { asError } from '../util/error.js'

/** Longer than this a timer cannot wait, in ms. */
const NEVER = 2 ** 31 - 1
/** So many deadlines may have passed, or been cancelled, before their places are given free. */
const MIN_COMPACTION = 256

/** Who has a deadline. */
export interface Expiring {
  /** The time is up. */
  expire(): void
}

/** Lets go of who has it as soon as it is cancelled: that may be a whole request and its answer. */
export class Deadline {
  constructor(
    readonly at: number,
    private whose: Expiring | undefined,
  ) {}

  get cancelled(): boolean {
    return this.whose === undefined
  }

  cancel(): void {
    this.whose = undefined
  }

  expire(): void {
    const { whose } = this
    this.whose = undefined
    whose?.expire()
  }
}

export class Deadlines {
  #queue: Deadline[] = []
  #head = 0
  #compactAt = MIN_COMPACTION
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly after: number,
    private readonly onerror: (error: Error) => void,
  ) {}

  add(whose: Expiring): Deadline {
    const deadline = new Deadline(monotonic() + this.after, whose)
    if (this.after > NEVER) return deadline
    this.#trim()
    this.#queue.push(deadline)
    this.#timer ??= this.#wait(this.after)
    return deadline
  }

  #fire(): void {
    const now = monotonic()
    for (;;) {
      this.#trim()
      const next = this.#queue[this.#head]
      if (!next || next.at > now) {
        this.#timer = next && this.#wait(next.at - now)
        return
      }
      this.#head++
      try {
        next.expire()
      } catch (error) {
        this.onerror(asError(error))
      }
    }
  }

  /** Passes by what is cancelled and first in line; when much has come since the last time, drops all that is cancelled. */
  #trim(): void {
    while (this.#queue[this.#head]?.cancelled) this.#head++
    if (this.#queue.length < this.#compactAt) return
    this.#queue = this.#queue.slice(this.#head).filter(({ cancelled }) => !cancelled)
    this.#head = 0
    this.#compactAt = Math.max(MIN_COMPACTION, 2 * this.#queue.length)
  }

  #wait(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#fire(), ms).unref()
  }
}
