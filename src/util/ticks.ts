/** Moments that are the same for all who wait: what came of the time before them cannot be told by when they come. */
import { monotonic } from './clock.js'

export class Ticks {
  #next: Promise<void> | undefined

  /** @param interval Between two ticks, in ms. */
  constructor(private readonly interval: number) {}

  /**
   * Resolves at the first tick that is at least one interval after `start`, by the monotonic clock. If that is past, at the next.
   */
  async after(start: number): Promise<void> {
    const { interval } = this
    const due = (Math.floor(start / interval) + 2) * interval
    do await this.#tick()
    while (monotonic() < due)
  }

  #tick(): Promise<void> {
    const at = (Math.floor(monotonic() / this.interval) + 1) * this.interval
    this.#next ??= until(at).then(() => {
      this.#next = undefined
    })
    return this.#next
  }
}

/** A timer counts whole milliseconds, and may be early by a part of one. */
async function until(at: number): Promise<void> {
  for (let wait = at - monotonic(); wait > 0; wait = at - monotonic()) {
    await new Promise((resolve) => setTimeout(resolve, Math.ceil(wait)))
  }
}
