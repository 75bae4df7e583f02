/** Carries messages from the table to this process's listeners. */

/** The statements on the table of messages that are needed here. */
export interface Messages {
  /** Id of the newest message that there ever was. */
  newest(): number
  /** Another number than before if another connection has written since. */
  dataVersion(): number
  /** The next messages after an id, without their texts: a node does not read messages that are for others. */
  after(id: number): { id: number; topic: string }[]
  /** The text of a message; undefined: it was swept meanwhile. */
  message(id: number): string | undefined
}

interface Subscription {
  /** Id of the last message that was published before the subscription. */
  since: number
  listener: (message: string) => void
}

export class Subscriptions {
  #messages: Messages
  /** Milliseconds. */
  readonly #pollInterval: number
  readonly #topics = new Map<string, Set<Subscription>>()
  #timer: NodeJS.Timeout | undefined
  /** Id of the last message that was delivered. */
  #cursor = 0
  #dataVersion = -1
  /** Whether there may be messages that were not delivered yet. */
  #isDue = false

  constructor(messages: Messages, pollInterval: number) {
    this.#messages = messages
    this.#pollInterval = pollInterval
  }

  /** Goes on with another file, from its newest message. */
  moveTo(messages: Messages): void {
    this.#messages = messages
    this.#cursor = messages.newest()
    this.#dataVersion = -1
    for (const subscriptions of this.#topics.values()) for (const each of subscriptions) each.since = this.#cursor
  }

  /** Returns a function that ends the subscription. */
  add(topic: string, listener: (message: string) => void): () => void {
    const subscription = { since: this.#messages.newest(), listener }
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

  /** To be called when this process has published: its own writes do not change `data_version`, so the poll would miss them. */
  deliverSoon(): void {
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
      const dataVersion = this.#messages.dataVersion()
      if (dataVersion === this.#dataVersion && !this.#isDue) return
      this.#dataVersion = dataVersion
      this.#isDue = true
    } catch {
      // The file cannot be read right now; the next poll tries again.
      return
    }
    this.#deliver()
  }

  #deliver(): void {
    // `#isDue` stays set until all is delivered, so that the next poll goes on after a failure.
    while (this.#timer && this.#isDue) {
      let messages: { id: number; topic: string; message: string | undefined }[]
      try {
        const rows = this.#messages.after(this.#cursor)
        messages = rows.map((row) => ({
          ...row,
          message: this.#topics.has(row.topic) ? this.#messages.message(row.id) : undefined,
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
