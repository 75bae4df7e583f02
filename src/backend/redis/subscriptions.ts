/** Channels that are subscribed to, kept that way through reconnects, and tried now and then. */
import { randomUUID } from 'node:crypto'
import type { Connector } from './connection.js'
import { Link, RedisUnavailable } from './link.js'

type Listener = (message: string) => void

export interface Timing {
  /** How often the subscriptions are tried, in milliseconds. */
  checkEvery: number
  /** How long a message may be on its way before the subscribing connection is given up, in milliseconds. */
  checkLimit: number
}

export const TIMING: Timing = { checkEvery: 10_000, checkLimit: 4_000 }

// What travels is a letter and a text: a message of the bus, or the name of a probe that its sender waits for.
const MESSAGE = '='
const PROBE = '?'

/**
 * A probe is a message to oneself. On a channel messages keep their order, so what arrives after the probe was published
 * after it: that is how a subscription is known to be complete, and not to give what was published before it. And only a
 * message that arrives proves a subscription whole, which can be lost without an error, in a half-open connection or while a
 * cluster is rebuilt.
 */
export class Subscriptions {
  readonly #channels = new Map<string, Channel>()
  readonly #probes = new Map<string, () => void>()
  readonly #subscriber: Link
  readonly #publisher: Link
  readonly #timing: Timing
  #timer: NodeJS.Timeout | undefined
  #closed = false

  /** Publishes over `publisher`, and subscribes over a connection of its own, made at the first subscription. */
  constructor(publisher: Link, connector: () => Promise<Connector>, timing: Timing) {
    this.#publisher = publisher
    this.#timing = timing
    this.#subscriber = new Link(connector, {
      ready: () => {
        for (const channel of this.#channels.values()) void channel.settle().catch(() => {})
      },
      message: (name, text) => this.#receive(name, text),
    })
  }

  async publish(name: string, message: string): Promise<void> {
    await this.#publisher.publish(name, MESSAGE + message)
  }

  /** Resolves when messages published from now on will arrive; with the way to end it. */
  async add(name: string, listener: Listener): Promise<() => Promise<void>> {
    const channel = this.#channels.get(name) ?? new Channel(name, this.#subscriber)
    this.#channels.set(name, channel)
    const entry = { listener }
    const remove = async () => {
      channel.listeners.delete(entry)
      if (!channel.users.delete(entry)) return
      // If this fails the connection is lost, and the channel is not subscribed to again.
      if (channel.users.size === 0) await channel.settle().catch(() => {})
      if (channel.users.size === 0 && this.#channels.get(name) === channel) this.#channels.delete(name)
    }
    channel.users.add(entry)
    try {
      await channel.settle()
      await this.#probe(name, () => channel.listeners.add(entry))
    } catch (error) {
      await remove()
      throw error
    }
    this.#watch()
    return remove
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#subscriber.close()
  }

  #receive(name: string, text: string): void {
    const body = text.slice(1)
    if (text.startsWith(PROBE)) this.#probes.get(body)?.()
    else if (text.startsWith(MESSAGE)) this.#channels.get(name)?.deliver(body)
  }

  /** Sends a probe; rejects, and gives the subscribing connection up, if it does not arrive. */
  async #probe(name: string, arrived: () => void): Promise<void> {
    const probe = randomUUID()
    const { epoch } = this.#subscriber
    let timer: NodeJS.Timeout | undefined
    const arrival = new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, this.#timing.checkLimit, false)
      this.#probes.set(probe, () => {
        arrived()
        resolve(true)
      })
    })
    try {
      await this.#publisher.publish(name, PROBE + probe)
      if (await arrival) return
    } finally {
      clearTimeout(timer)
      this.#probes.delete(probe)
    }
    this.#subscriber.replace('the subscriptions were lost', epoch)
    throw new RedisUnavailable('Redis: the subscriptions were lost')
  }

  #watch(): void {
    if (this.#timer || this.#closed) return
    this.#timer = setTimeout(async () => {
      // While Redis is away for publishing too, nothing can be said of the subscriptions.
      await this.#check().catch(() => {})
      this.#timer = undefined
      if (this.#channels.size > 0) this.#watch()
    }, this.#timing.checkEvery)
    this.#timer.unref()
  }

  /** Probes one channel, each time another. */
  async #check(): Promise<void> {
    const [next] = this.#channels
    if (!next) return
    const [name, channel] = next
    this.#channels.delete(name)
    this.#channels.set(name, channel)
    await this.#probe(name, () => {})
  }
}

/** A channel and who uses it here. */
class Channel {
  /** Whoever wants the channel. */
  readonly users = new Set<object>()
  /** Those of them whose subscription is complete. */
  readonly listeners = new Set<{ listener: Listener }>()
  readonly #name: string
  readonly #link: Link
  #turn: Promise<unknown> = Promise.resolve()

  constructor(name: string, link: Link) {
    this.#name = name
    this.#link = link
  }

  deliver(message: string): void {
    for (const { listener } of this.listeners) listener(message)
  }

  /** Makes the server's view agree with ours; one step at a time, so that the last one wins. */
  settle(): Promise<unknown> {
    this.#turn = this.#turn
      .catch(() => {})
      .then(() => (this.users.size > 0 ? this.#link.subscribe(this.#name) : this.#link.unsubscribe(this.#name)))
    return this.#turn
  }
}
