import { PATIENCE, within } from './within.js'

/** What has happened so far, in order, and a way to wait for what is yet to happen. */
export class Recorder<T> {
  readonly all: T[] = []
  #waiters = new Set<() => void>()

  add(item: T): void {
    this.all.push(item)
    for (const check of [...this.#waiters]) check()
  }

  /** The first item that matches, from `since` on (a former `count`; default: from the beginning), whether it is there yet or not. */
  async first(matches: (item: T) => boolean, what: string, { since = 0, ms = PATIENCE } = {}): Promise<T> {
    let check = () => {}
    const found = new Promise<T>((resolve) => {
      check = () => {
        for (const item of this.all.slice(since)) if (matches(item)) return resolve(item)
      }
    })
    this.#waiters.add(check)
    check()
    try {
      return await within(found, what, ms)
    } finally {
      this.#waiters.delete(check)
    }
  }

  get count(): number {
    return this.all.length
  }
}
