export type Clock = () => number

/** Entries looked at for expiry at each write: more than the one that a write may add, so garbage cannot pile up. */
const SWEEP = 4

/** A map whose entries expire: never returned once they have, and removed by the writes that follow. */
export class ExpiringMap<V> {
  readonly #now: Clock
  readonly #entries = new Map<string, { value: V; expires: number }>()
  #sweep = this.#entries.entries()

  constructor(now: Clock) {
    this.#now = now
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key)
    if (!entry) return undefined
    if (entry.expires > this.#now()) return entry.value
    this.#entries.delete(key)
    return undefined
  }

  set(key: string, value: V, ttl: number): void {
    this.#entries.set(key, { value, expires: this.#now() + ttl })
    for (let looked = 0; looked < SWEEP; looked++) {
      const next = this.#sweep.next()
      if (next.done) {
        this.#sweep = this.#entries.entries()
        return
      }
      const [candidate, { expires }] = next.value
      if (expires <= this.#now()) this.#entries.delete(candidate)
    }
  }

  /** True: there was one, not expired. */
  delete(key: string): boolean {
    const there = this.get(key) !== undefined
    this.#entries.delete(key)
    return there
  }

  /** The keys of now; what they name may be gone by the time it is looked up. */
  keys(): string[] {
    return [...this.#entries.keys()]
  }
}
