/** Follows a standalone stream by hand, and comes back to it with the last event id whenever it ends. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Reply } from '../harness/reply.js'
import { numberIn } from './caller.js'
import { type Log, Numbers } from './log.js'
import { RETRY_INTERVAL } from './terms.js'

export class Listener {
  readonly numbers = new Numbers()
  #cursor: string | undefined
  #seen = new Set<string>()
  #over = false
  #reply: Reply | undefined
  #deleted = false
  /** Resolves when it is closed, or the session is gone. */
  readonly done: Promise<void>

  constructor(
    private readonly name: string,
    private readonly get: (cursor: string | undefined) => Promise<Reply | 'broken'>,
    private readonly log: Log,
  ) {
    this.done = this.#follow()
  }

  close(): void {
    this.#over = true
    void this.#reply?.leave()
  }

  /** The session is about to be deleted: from now on 404 is what it may be told. */
  expectEnd(): void {
    this.#deleted = true
  }

  async #follow(): Promise<void> {
    while (!this.#over) {
      const reply = await this.get(this.#cursor)
      if (reply !== 'broken' && !this.#over) {
        this.#reply = reply
        if (reply.status === 200 && reply.isStream) await this.#read(reply)
        else if (reply.status === 404 && this.#deleted) return
        else if (!this.#over) {
          this.log.fault(
            `${this.name}: GET of its standalone stream after ${this.#cursor} was answered ${reply.status}`,
          )
          // 404: there is nothing to come back to; 400: what was there is lost
          if (reply.status === 404) return
          this.#cursor = undefined
        }
      }
      await delay(RETRY_INTERVAL)
    }
    await this.#reply?.leave()
  }

  async #read(reply: Reply): Promise<void> {
    try {
      for (let block = await reply.block(); block && !this.#over; block = await reply.block()) {
        if (block.id !== undefined) this.#cursor = block.id
        if (block.message === undefined) continue
        if (block.id !== undefined && this.#seen.has(block.id))
          this.log.fault(`${this.name}: event ${block.id} came twice`)
        if (block.id !== undefined) this.#seen.add(block.id)
        const number = numberIn(block.message)
        if (number !== undefined) this.numbers.hear(number, this.log.now)
        else if (block.message.error) this.numbers.told++
        else this.log.fault(`${this.name}: its standalone stream said ${block.data}`)
      }
    } catch {
      // it comes back
    }
  }
}
