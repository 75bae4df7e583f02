/** Subscriptions to channels, which last through reconnects, and are tested now and then. */
import { randomUUID } from 'node:crypto'
import { Late, patiently } from '../../util/within.js'
import { Channel } from './channel.js'
import type { Connector } from './connection.js'
import { type Home, Homes } from './homes.js'
import { type Link, RedisUnavailable } from './link.js'

export interface Timing {
  /** How often a subscribing connection is asked for a sign of life, in milliseconds. */
  lookEvery: number
  /** How often a subscription of each connection is tested, in milliseconds. */
  testEvery: number
  /** How long a sign of life or a probe may take before the subscribing connection is replaced, in milliseconds. */
  limit: number
}

export const TIMING: Timing = { lookEvery: 2_000, testEvery: 10_000, limit: 2_000 }

// What is published begins with one of these: a message of the bus follows, or the name of a probe.
const MESSAGE = '='
const PROBE = '?'

/**
 * A subscription can be lost without an error: on a connection that is dead and does not know it, with a server that is no
 * longer the one that others publish to, or while a cluster moves its slots. So each subscribing connection is asked for a sign
 * of life every few seconds, and at once when the one for commands was lost or is back. That costs the same however many
 * channels there are, and so do the probes that one channel of each connection is tested by now and then.
 *
 * Probes are messages that this node publishes to itself. A probe that arrives shows two things.
 *
 * - The subscription works, and the connections to publish and to subscribe lead to the same place.
 * - What arrives after the probe was published after it, because messages of one channel keep their order. That is how a new
 *   listener gets everything that is published from now on, and nothing that was published before.
 */
export class Subscriptions {
  readonly #channels = new Map<string, Channel>()
  readonly #probes = new Map<string, () => void>()
  readonly #homes: Homes<Channel>
  readonly #publisher: Link
  readonly #timing: Timing
  /** The homes that are being looked after right now. */
  readonly #busy = new Set<Home<Channel>>()
  #timer: NodeJS.Timeout | undefined
  #testedAt = Date.now()
  #closed = false

  /** Publishes over `publisher`, and subscribes over connections of its own, made at the first subscription. */
  constructor(publisher: Link, connector: () => Promise<Connector>, sharded: boolean, timing: Timing) {
    this.#publisher = publisher
    this.#timing = timing
    this.#homes = new Homes(publisher, connector, sharded, {
      ready: ({ channels }) => {
        for (const channel of channels) this.#subscribeAgain(channel)
      },
      message: (home, name, text) => this.#receive(home, name, text),
      moved: (home, name) => {
        const channel = this.#channels.get(name)
        if (channel?.home === home) this.#subscribeAgain(channel)
      },
    })
    publisher.watch((ready) => this.#look(ready))
  }

  async publish(name: string, message: string): Promise<void> {
    await this.#publisher.publish(name, MESSAGE + message)
  }

  /** Resolves when messages published from now on will arrive, with a function that ends the subscription. */
  async add(name: string, listener: (message: string) => void): Promise<() => Promise<void>> {
    const channel = this.#channels.get(name) ?? new Channel(name, this.#homes)
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
      await this.#probe(channel, () => channel.listeners.add(entry))
    } catch (error) {
      await remove()
      throw error
    }
    this.#lookRegularly()
    return remove
  }

  /** Makes new connections in place of all that subscribe. */
  renew(reason: string): void {
    this.#homes.renew(reason)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#homes.close()
  }

  #receive(home: Home<Channel>, name: string, text: string): void {
    const channel = this.#channels.get(name)
    // A server that had the channel before may still send, too.
    if (!channel || channel.home !== home) return
    const body = text.slice(1)
    if (text.startsWith(PROBE)) this.#probes.get(body)?.()
    else if (text.startsWith(MESSAGE)) channel.deliver(body)
  }

  /** What cannot be done now is done when the next look finds it undone. */
  #subscribeAgain(channel: Channel): void {
    channel.subscribed = false
    void channel.update().catch(() => {})
  }

  /** Sends a probe. Rejects if it does not arrive, and has the subscribing connection replaced. */
  async #probe(channel: Channel, onArrival: () => void): Promise<void> {
    const probe = randomUUID()
    const link = channel.home?.link
    const generation = link?.generation ?? 0
    const arrival = new Promise<void>((resolve) => {
      this.#probes.set(probe, () => {
        onArrival()
        resolve()
      })
    })
    try {
      await this.#publisher.publish(channel.name, PROBE + probe)
      await patiently(this.#timing.limit, arrival)
    } catch (error) {
      if (!(error instanceof Late)) throw error
      link?.replace('the subscriptions were lost', generation)
      throw new RedisUnavailable('Redis: the subscriptions were lost')
    } finally {
      this.#probes.delete(probe)
    }
  }

  #lookRegularly(): void {
    if (this.#timer || this.#closed) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      const isTime = Date.now() - this.#testedAt >= this.#timing.testEvery
      if (isTime) this.#testedAt = Date.now()
      this.#look(isTime)
      if (this.#channels.size > 0) this.#lookRegularly()
    }, this.#timing.lookEvery)
    this.#timer.unref()
  }

  /** Looks after all subscribing connections, and with `test` sends a probe over each. */
  #look(test: boolean): void {
    for (const home of this.#homes.all()) {
      if (this.#busy.has(home)) {
        // The next look does it.
        if (test) this.#testedAt = 0
        continue
      }
      this.#busy.add(home)
      // Whether it has failed or could not be done, there is nothing more to do now.
      this.#lookAfter(home, test)
        .catch(() => {})
        .finally(() => this.#busy.delete(home))
    }
  }

  async #lookAfter(home: Home<Channel>, test: boolean): Promise<void> {
    const { link, channels } = home
    const [first] = channels
    if (!first) return
    // Another server may have taken the place of a shard's.
    const mayHaveMoved = this.#homes.sharded && (test || !link.ready)
    if (mayHaveMoved) await this.#homes.locate(first.name)
    const stale = [...channels].filter((channel) => mayHaveMoved || !channel.subscribed)
    await Promise.allSettled(stale.map((channel) => channel.update()))
    const answers = await link.ping(this.#timing.limit)
    if (!link.ready || (answers && !test)) return
    // Another channel each time.
    channels.delete(first)
    channels.add(first)
    await this.#probe(first, () => {})
  }
}
