import type { prepareBus } from './bus.js'

type Bus = ReturnType<typeof prepareBus>

interface Subscription {
  /** Messages up to this id were published before the subscription. */
  since: number
  listener: (message: string) => void
}

/** Carries messages from the table to this process's listeners. */
export class Subscriptions {
  readonly #bus: Bus
  readonly #pollInterval: number
  readonly #topics = new Map<string, Set<Subscription>>()
  #timer: NodeJS.Timeout | undefined
  /** Everything up to this id was delivered. */
  #cursor = 0
  #dataVersion = -1
  #isDue = false

  constructor(bus: Bus, pollInterval: number) {
    this.#bus = bus
    this.#pollInterval = pollInterval
  }

  /** The way to end it. */
  add(topic: string, listener: (message: string) => void): () => void {
    const subscription = { since: this.#bus.newest(), listener }
    if (!this.#timer) {
      this.#cursor = subscription.since
      this.#timer = setInterval(() => this.#poll(), this.#pollInterval).unref()
    }
    const subscriptions = this.#topics.get(topic) ?? new Set()
    this.#topics.set(topic, subscriptions.add(subscription))
    return () => {
      subscriptions.delete(subscription)
      if (subscriptions.size === 0 && this.#topics.get(topic) === subscriptions) this.#topics.delete(topic)
      if (this.#topics.size === 0) this.#stop()
    }
  }

  /** This process has published: that is no reason for `data_version` to change, which tells of other connections' writes. */
  due(): void {
    if (!this.#timer || this.#isDue) return
    this.#isDue = true
    setImmediate(() => this.#deliver())
  }

  close(): void {
    this.#topics.clear()
    this.#stop()
  }

  #stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #poll(): void {
    try {
      const dataVersion = this.#bus.dataVersion()
      if (dataVersion === this.#dataVersion && !this.#isDue) return
      this.#dataVersion = dataVersion
      this.#isDue = true
    } catch {
      // The database cannot be read right now; the next poll tries again.
      return
    }
    this.#deliver()
  }

  #deliver(): void {
    // Until all is delivered it stays due, so that the next poll goes on after a failure.
    while (this.#timer && this.#isDue) {
      let messages: { id: number; topic: string; message: string | undefined }[]
      try {
        const rows = this.#bus.after(this.#cursor)
        messages = rows.map((row) => ({
          ...row,
          message: this.#topics.has(row.topic) ? this.#bus.message(row.id) : undefined,
        }))
      } catch {
        return
      }
      if (messages.length === 0) this.#isDue = false
      for (const { id, topic, message } of messages) {
        this.#cursor = id
        if (message === undefined) continue
        for (const { since, listener } of this.#topics.get(topic) ?? []) if (id > since) listener(message)
      }
    }
  }
}
