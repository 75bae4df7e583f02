/** A channel, who uses it here, and where it is subscribed to. */
import type { Home, Homes } from './homes.js'

/** How often a subscription follows its channel from server to server before it waits for a while. */
const MOVES = 4

export class Channel {
  /** Everybody who wants messages of the channel, or is about to. As long as there is one, the channel is subscribed to. */
  readonly users = new Set<object>()
  /** Those whose subscription is complete: they are given what arrives. */
  readonly listeners = new Set<{ listener: (message: string) => void }>()
  readonly name: string
  home: Home<Channel> | undefined
  /** Whether the server has acknowledged the subscription, and nothing has ended it since as far as is known. */
  subscribed = false
  readonly #homes: Homes<Channel>
  /** The last update that was begun. */
  #lastUpdate: Promise<unknown> = Promise.resolve()

  constructor(name: string, homes: Homes<Channel>) {
    this.name = name
    this.#homes = homes
  }

  deliver(message: string): void {
    for (const { listener } of this.listeners) listener(message)
  }

  /** Subscribes at the server if the channel has users, and unsubscribes if not. One update at a time, so that the last one counts. */
  update(): Promise<unknown> {
    this.#lastUpdate = this.#lastUpdate
      .catch(() => {})
      .then(() => (this.users.size > 0 ? this.#enter() : this.#leave()))
    return this.#lastUpdate
  }

  async #enter(): Promise<void> {
    for (let move = 1; ; move++) {
      const { home } = this
      this.home = await this.#homes.settle(this, this.name, home)
      if (this.home !== home) this.subscribed = false
      if (this.subscribed) return
      // Set before the answer, so that a loss that is told right after it counts.
      this.subscribed = true
      try {
        await this.home.link.subscribe(this.name)
        return
      } catch (error) {
        this.subscribed = false
        if (move === MOVES || !/\bMOVED\b/.test(String(error))) throw error
        await this.#homes.locate(this.name)
      }
    }
  }

  async #leave(): Promise<void> {
    const { home } = this
    if (!home) return
    this.home = undefined
    this.subscribed = false
    try {
      await home.link.unsubscribe(this.name)
    } finally {
      // One that came meanwhile has its update yet to come.
      this.#homes.leave(this, home)
    }
  }
}
