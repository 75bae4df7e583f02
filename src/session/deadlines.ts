/**
 * One timer for many deadlines that are all equally far away. A timer for each short call would cost more than the rest of
 * what is done here for it, and hardly any of them ever fires.
 */
export interface Deadline {
  /** Called when the time is up; not if `settled` by then. */
  expire(): void
  readonly settled: boolean
}

export class Deadlines {
  #queue: { at: number; deadline: Deadline }[] = []
  #head = 0
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly after: number) {}

  add(deadline: Deadline): void {
    this.#queue.push({ at: Date.now() + this.after, deadline })
    this.#timer ??= setTimeout(() => this.#fire(), this.after)
  }

  #fire(): void {
    this.#timer = undefined
    const now = Date.now()
    for (; this.#head < this.#queue.length; this.#head++) {
      const { at, deadline } = this.#queue[this.#head] as { at: number; deadline: Deadline }
      if (deadline.settled) continue
      if (at > now) {
        this.#timer = setTimeout(() => this.#fire(), at - now)
        break
      }
      deadline.expire()
    }
    this.#queue.splice(0, this.#head)
    this.#head = 0
  }
}
