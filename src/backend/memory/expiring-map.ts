/** Gives the time in milliseconds since the epoch. */
export type Clock = () => number

/** Entries that each write looks at for expiry. A write adds one at most, so expired entries cannot pile up. */
const SWEEP = 4

/** A map whose entries expire. An expired entry is never returned, and is removed by the writes that follow. */
export class ExpiringMap<V> {
  readonly #now: Clock
  /** `expires`: milliseconds since the epoch. */
  readonly #entries = new Map<string, { value: V; expires: number }>()
  /** Goes around all entries, some at each write. */
  #sweep = this.#entries.entries()
  readonly #removed: (value: V) => void

  /** @param removed Told of each value that has expired, or is deleted. */
  constructor(now: Clock, removed: (value: V) => void = () => {}) {
    this.#now = now
    this.#removed = removed
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key)
    if (!entry) return undefined
    if (entry.expires > this.#now()) return entry.value
    this.#remove(key, entry.value)
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
      const [candidate, { value: old, expires }] = next.value
      if (expires <= this.#now()) this.#remove(candidate, old)
    }
  }

  /** True: there was an entry that had not expired. */
  delete(key: string): boolean {
    const value = this.get(key)
    if (value === undefined) return false
    this.#remove(key, value)
    return true
  }

  #remove(key: string, value: V): void {
    this.#entries.delete(key)
    this.#removed(value)
  }

  /** The keys at this moment. Some may have expired, or be gone by the time they are looked up. */
  keys(): string[] {
    return [...this.#entries.keys()]
  }
}
