/** Messages on their way from the table to those who are subscribed. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Link } from './link.js'
import { MESSAGE_TTL, type Messages, type Ring } from './messages.js'

/** Messages read in one statement. */
const BATCH = 1_000

/** Notifications that wait for a statement; if there are more, the table is searched instead. */
const MAX_RINGS = 10_000

/** Pause after a statement that found less than notifications said: somebody may be sending false ones. In milliseconds. */
const FRUITLESS_PAUSE = 20

/** Pause before the table is searched because of too many notifications, in milliseconds. */
const SEARCH_PAUSE = 250

export interface Readers {
  /** The channels that somebody here is subscribed to. */
  channels(): Iterable<string>
  deliver(channel: string, id: number, text: string): void
}

/**
 * A notification names a message's row. What it says is not trusted: the row's own channel decides who gets the message, a row
 * that is not there is nobody's, and however many notifications come, one statement at a time reads for all of them.
 *
 * Each message is delivered once, in the order of the notifications, which is the order of the commits. Ids are not: a
 * transaction may take a lower one and commit later. So what was missed while no connection listened is searched for among all
 * messages, and told from what was delivered by their ids.
 */
export class Deliveries {
  readonly #link: Link
  readonly #messages: Messages
  readonly #readers: Readers
  /** What notifications said, by channel and id: a false one does not hide the true one. */
  readonly #rings = new Map<string, Ring>()
  #mustSearch = false
  /** By the monotonic clock, when the table may be asked again. */
  #notBefore = 0
  #isRunning = false
  /** Ids of what was delivered since `#deliveredFrom`, and for at least as long as a message is there before that. */
  #delivered = new Set<number>()
  #deliveredBefore = new Set<number>()
  #deliveredFrom = 0

  constructor(link: Link, messages: Messages, readers: Readers) {
    this.#link = link
    this.#messages = messages
    this.#readers = readers
  }

  /** A notification arrived. */
  ring(ring: Ring): void {
    if (this.#wasDelivered(ring.id)) return
    if (this.#rings.size >= MAX_RINGS) {
      this.#rings.clear()
      this.#mustSearch = true
      this.#notBefore = performance.now() + SEARCH_PAUSE
    }
    this.#rings.set(keyOf(ring), ring)
    void this.#run()
  }

  /** Notifications may have been missed. */
  search(): void {
    this.#mustSearch = true
    void this.#run()
  }

  /** The table begins anew, and with it the ids. */
  forget(): void {
    this.#rings.clear()
    this.#delivered.clear()
    this.#deliveredBefore.clear()
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return
    this.#isRunning = true
    try {
      // Notifications that arrived together are read together.
      await Promise.resolve()
      while (await this.#step());
    } finally {
      this.#isRunning = false
    }
  }

  /** False: there is nothing to do, or no connection to do it with. */
  async #step(): Promise<boolean> {
    const { line } = this.#link
    if (!line || (!this.#mustSearch && this.#rings.size === 0)) return false
    const pause = this.#notBefore - performance.now()
    if (pause > 0) {
      await delay(pause, undefined, { ref: false })
      return true
    }
    if (this.#mustSearch) {
      this.#mustSearch = false
      const channels = [...this.#readers.channels()]
      const found = await this.#link.attempt(line, (line) => this.#messages.find(line, channels))
      if (found) this.#ringFirst(found)
      return true
    }
    const rings = [...this.#rings.values()].slice(0, BATCH)
    const messages = await this.#link.attempt(line, (line) => this.#messages.read(line, rings))
    if (!messages) return true
    for (const ring of rings) this.#rings.delete(keyOf(ring))
    if (messages.length < rings.length) this.#notBefore = performance.now() + FRUITLESS_PAUSE
    const unread = messages.filter(({ text }) => text === undefined)
    if (unread.length > 0) this.#ringFirst(unread)
    for (const { id, channel, text } of messages) {
      if (text === undefined || this.#wasDelivered(id)) continue
      this.#noteDelivered(id)
      this.#readers.deliver(channel, id, text)
    }
    return true
  }

  /** Puts them before what notifications said meanwhile. */
  #ringFirst(rings: readonly Ring[]): void {
    const later = [...this.#rings.values()]
    this.#rings.clear()
    for (const ring of [...rings, ...later]) {
      if (!this.#wasDelivered(ring.id)) this.#rings.set(keyOf(ring), { id: ring.id, channel: ring.channel })
    }
  }

  #wasDelivered(id: number): boolean {
    return this.#delivered.has(id) || this.#deliveredBefore.has(id)
  }

  #noteDelivered(id: number): void {
    const now = performance.now()
    if (now - this.#deliveredFrom > MESSAGE_TTL) {
      this.#deliveredBefore = this.#delivered
      this.#delivered = new Set()
      this.#deliveredFrom = now
    }
    this.#delivered.add(id)
  }
}

function keyOf({ id, channel }: Ring): string {
  return `${channel} ${id}`
}
