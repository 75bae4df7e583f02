/** What a value in the session's journal may be, given the writes so far. */
export class Journalled {
  readonly #writes: { value: unknown; sentAt: number; doneAt: number; bound: number }[] = [
    { value: undefined, sentAt: Number.NEGATIVE_INFINITY, doneAt: Number.NEGATIVE_INFINITY, bound: 0 },
  ]

  /** A write was sent; with what to call when it has succeeded, if it does. */
  write(value: unknown, now: number): (now: number, bound: number) => void {
    const write = { value, sentAt: now, doneAt: Number.POSITIVE_INFINITY, bound: 0 }
    this.#writes.push(write)
    return (doneAt, bound) => Object.assign(write, { doneAt, bound })
  }

  /** What a request may see that was sent at `from` and answered at `to`. */
  allowed(from: number, to: number): unknown[] {
    return this.#writes
      .filter((one) => one.sentAt <= to)
      .filter(
        (one) =>
          !this.#writes.some((next) => next !== one && next.sentAt >= one.doneAt && next.doneAt + next.bound <= from),
      )
      .map(({ value }) => value)
  }
}
