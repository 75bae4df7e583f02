/** Over which connection each channel is subscribed to: one for all, or in a cluster one for each shard. */
import type { Connector } from './connection.js'
import { Link } from './link.js'

/** A connection that subscribes, and the channels that it has, those first that were tested longest ago. */
export interface Home<Channel> {
  readonly link: Link
  readonly channels: Set<Channel>
}

/** What is told of a home. */
export interface HomeEvents<Channel> {
  /** Its connection can be used, for the first time or again, and has no subscriptions yet. */
  ready(home: Home<Channel>): void
  message(home: Home<Channel>, name: string, text: string): void
  /** The server of the home has ended the subscription to a channel. */
  moved(home: Home<Channel>, name: string): void
}

export class Homes<Channel> {
  readonly #homes = new Map<string, Home<Channel>>()
  readonly #publisher: Link
  readonly #connector: () => Promise<Connector>
  readonly #events: HomeEvents<Channel>
  readonly sharded: boolean
  #closed = false

  /** @param publisher Knows which shard has a channel. */
  constructor(publisher: Link, connector: () => Promise<Connector>, sharded: boolean, events: HomeEvents<Channel>) {
    this.#publisher = publisher
    this.#connector = connector
    this.sharded = sharded
    this.#events = events
  }

  all(): Home<Channel>[] {
    return [...this.#homes.values()]
  }

  /** Where a channel belongs now, as far as is known. */
  async settle(channel: Channel, name: string, before: Home<Channel> | undefined): Promise<Home<Channel>> {
    const shard = this.sharded ? await this.#publisher.shardOf(name) : undefined
    const address = shard?.address ?? ''
    const home = this.#homes.get(address) ?? this.#open(shard ? async () => shard.connector : this.#connector)
    this.#homes.set(address, home)
    home.channels.add(channel)
    if (before && before !== home) this.leave(channel, before)
    return home
  }

  /**
   * Has the client library find out which server has a channel: a command that reads a key of that name is redirected. Messages
   * and subscriptions would not do, because a replica takes them, too.
   */
  async locate(name: string): Promise<void> {
    // What fails now is tried again, and so is what depends on it.
    await this.#publisher.send(name, ['exists', name]).catch(() => {})
  }

  /** Without channels, the connection to a shard is given up: the shard may be gone for good. */
  leave(channel: Channel, home: Home<Channel>): void {
    home.channels.delete(channel)
    if (!this.sharded || home.channels.size > 0) return
    home.link.close()
    for (const [address, other] of this.#homes) if (other === home) this.#homes.delete(address)
  }

  /** Makes new connections in place of all that there are. */
  renew(reason: string): void {
    for (const { link } of this.all()) link.renew(reason)
  }

  close(): void {
    this.#closed = true
    for (const { link } of this.all()) link.close()
  }

  #open(connector: () => Promise<Connector>): Home<Channel> {
    const link = new Link(connector, {
      ready: () => this.#events.ready(home),
      message: (name, text) => this.#events.message(home, name, text),
      moved: (name) => this.#events.moved(home, name),
    })
    if (this.#closed) link.close()
    const home: Home<Channel> = { link, channels: new Set() }
    return home
  }
}
