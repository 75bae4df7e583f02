/**
 * One timer for many deadlines that are all equally far away. A timer for each short call would cost more than the rest of
 * what is done here for it, and hardly any of them ever fires.
 */

import { monotonic } from '../util/clock.js'
import { asError } from '../util/error.js'

export interface Deadline {
  /** Called when the time is up; not if `settled` by then. */
  expire(): void
  readonly settled: boolean
}

/** Longer than this a timer cannot wait, in ms. */
const NEVER = 2 ** 31 - 1
const MIN_COMPACTION = 256

export class Deadlines {
  #queue: { at: number; deadline: Deadline }[] = []
  #head = 0
  #compactAt = MIN_COMPACTION
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly after: number,
    private readonly onerror: (error: Error) => void,
  ) {}

  add(deadline: Deadline): void {
    if (this.after > NEVER) return
    this.#trim()
    this.#queue.push({ at: monotonic() + this.after, deadline })
    this.#timer ??= this.#wait(this.after)
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
        next.deadline.expire()
      } catch (error) {
        this.onerror(asError(error))
      }
    }
  }

  /** Passes by what is settled and first in line; when much has come since the last time, lets go of all that is settled. */
  #trim(): void {
    while (this.#queue[this.#head]?.deadline.settled) this.#head++
    if (this.#queue.length < this.#compactAt) return
    this.#queue = this.#queue.slice(this.#head).filter(({ deadline }) => !deadline.settled)
    this.#head = 0
    this.#compactAt = Math.max(MIN_COMPACTION, 2 * this.#queue.length)
  }

  #wait(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#fire(), ms).unref()
  }
}
