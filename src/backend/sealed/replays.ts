/** Which messages have come before, in memory that is bounded. */

/** How far a message may be behind the newest of its sender: messages of other topics, that do not come here, count as well. */
const SPAN = 4096

/** The numbers of one sender's messages: each is taken once. */
export class Window {
  #highest = -1
  /** A bit for each of the last {@link SPAN} numbers. */
  readonly #taken = new Uint8Array(SPAN / 8)

  /** False: it was taken before, or is so old that nobody knows. */
  take(number: number): boolean {
    if (number <= this.#highest - SPAN) return false
    if (number - this.#highest >= SPAN) this.#taken.fill(0)
    else for (let skipped = this.#highest + 1; skipped <= number; skipped++) this.#set(skipped, false)
    this.#highest = Math.max(this.#highest, number)
    const place = number % SPAN
    const isTaken = ((this.#taken[place >> 3] as number) & (1 << (place & 7))) !== 0
    this.#set(number, true)
    return !isTaken
  }

  #set(number: number, taken: boolean): void {
    const place = number % SPAN
    const byte = this.#taken[place >> 3] as number
    this.#taken[place >> 3] = taken ? byte | (1 << (place & 7)) : byte & ~(1 << (place & 7))
  }
}
