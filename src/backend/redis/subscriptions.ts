/** Subscriptions to channels, which last through reconnects, and are tested now and then. */
import { randomUUID } from 'node:crypto'
import { Late, within } from '../../util/within.js'
import type { Connector } from './connection.js'
import { Link, RedisUnavailable } from './link.js'

type Listener = (message: string) => void

export interface Timing {
  /** How often a subscription is tested, in milliseconds. */
  checkEvery: number
  /** How long a probe may take to arrive before the subscribing connection is replaced, in milliseconds. */
  checkLimit: number
}

export const TIMING: Timing = { checkEvery: 10_000, checkLimit: 4_000 }

// What is published begins with one of these: a message of the bus follows, or the name of a probe.
const MESSAGE = '='
const PROBE = '?'

/**
 * Subscriptions are tested by probes: messages that this node publishes to itself. A probe that arrives shows two things.
 *
 * - The subscription works. It can be lost without an error, on a connection that is dead and does not know it, or while a
 *   cluster moves its slots.
 * - What arrives after the probe was published after it, because messages of one channel keep their order. That is how a new
 *   listener gets everything that is published from now on, and nothing that was published before.
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
        for (const channel of this.#channels.values()) void channel.update().catch(() => {})
      },
      message: (name, text) => this.#receive(name, text),
    })
  }

  async publish(name: string, message: string): Promise<void> {
    await this.#publisher.publish(name, MESSAGE + message)
  }

  /** Resolves when messages published from now on will arrive, with a function that ends the subscription. */
  async add(name: string, listener: Listener): Promise<() => Promise<void>> {
    const channel = this.#channels.get(name) ?? new Channel(name, this.#subscriber)
    this.#channels.set(name, channel)
    const entry = { listener }
    const remove = async () => {
      channel.listeners.delete(entry)
      if (!channel.users.delete(entry)) return
      // If this fails the connection is lost, and the next one will not subscribe to a channel that nobody uses.
      if (channel.users.size === 0) await channel.update().catch(() => {})
      if (channel.users.size === 0 && this.#channels.get(name) === channel) this.#channels.delete(name)
    }
    channel.users.add(entry)
    try {
      await channel.update()
      await this.#probe(name, () => channel.listeners.add(entry))
    } catch (error) {
      await remove()
      throw error
    }
    this.#testRegularly()
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

  /** Sends a probe. Rejects if it does not arrive, and has the subscribing connection replaced. */
  async #probe(name: string, onArrival: () => void): Promise<void> {
    const probe = randomUUID()
    const { generation } = this.#subscriber
    const arrival = new Promise<void>((resolve) => {
      this.#probes.set(probe, () => {
        onArrival()
        resolve()
      })
    })
    try {
      await this.#publisher.publish(name, PROBE + probe)
      await within(this.#timing.checkLimit, arrival)
    } catch (error) {
      if (!(error instanceof Late)) throw error
      this.#subscriber.replace('the subscriptions were lost', generation)
      throw new RedisUnavailable('Redis: the subscriptions were lost')
    } finally {
      this.#probes.delete(probe)
    }
  }

  #testRegularly(): void {
    if (this.#timer || this.#closed) return
    this.#timer = setTimeout(async () => {
      // Whether it has failed or could not be done, there is nothing more to do now.
      await this.#testNext().catch(() => {})
      this.#timer = undefined
      if (this.#channels.size > 0) this.#testRegularly()
    }, this.#timing.checkEvery)
    this.#timer.unref()
  }

  /** Tests one channel, each time another one. */
  async #testNext(): Promise<void> {
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
  /** Everybody who wants messages of the channel, or is about to. As long as there is one, the channel is subscribed to. */
  readonly users = new Set<object>()
  /** Those whose subscription is complete: they are given what arrives. */
  readonly listeners = new Set<{ listener: Listener }>()
  readonly #name: string
  readonly #link: Link
  /** The last update that was begun. */
  #lastUpdate: Promise<unknown> = Promise.resolve()

  constructor(name: string, link: Link) {
    this.#name = name
    this.#link = link
  }

  deliver(message: string): void {
    for (const { listener } of this.listeners) listener(message)
  }

  /** Subscribes at the server if the channel has users, and unsubscribes if not. One update at a time, so that the last one counts. */
  update(): Promise<unknown> {
    this.#lastUpdate = this.#lastUpdate
      .catch(() => {})
      .then(() => (this.users.size > 0 ? this.#link.subscribe(this.#name) : this.#link.unsubscribe(this.#name)))
    return this.#lastUpdate
  }
}
