/** Who is subscribed to which channel, and what the connection listens to because of that. */
import { within } from '../../util/within.js'
import { type Client, closedError, isAnswer, type Line } from './connection.js'
import type { Database } from './database.js'
import { Deliveries } from './deliveries.js'
import { Link, type LinkTiming, TIMING } from './link.js'
import { idIn, type Messages } from './messages.js'

/** How long subscribing may take, with the connection lost and made again meanwhile, in milliseconds. */
const SUBSCRIBE_TIMEOUT = 5_000

/** How long a new connection may take to listen to all channels, in milliseconds. */
const LISTEN_LIMIT = 4_000

type Listener = (text: string) => void

interface Subscriber {
  listener: Listener
  /** The newest message's id when the subscription began: what is not newer was published before. Undefined: it has not begun. */
  after: number | undefined
}

interface Join {
  channel: string
  subscriber: Subscriber
  resolve(): void
  reject(error: unknown): void
}

export class Subscriptions {
  readonly #database: Database
  readonly #messages: Messages
  readonly #link: Link
  readonly #deliveries: Deliveries
  readonly #timing: LinkTiming
  readonly #channels = new Map<string, Set<Subscriber>>()
  /** What the connection listens to. */
  #listened = new Set<string>()
  /** Those of the above that nobody is subscribed to any more. The next statement ends them. */
  readonly #unused = new Set<string>()
  /** Subscriptions that have not begun. */
  #joins: Join[] = []
  #isSyncing = false
  /** Of the table, see {@link Messages.incarnation}. */
  #incarnation: string | undefined

  constructor(client: Pick<Client, 'connect'>, database: Database, messages: Messages, timing: LinkTiming = TIMING) {
    this.#database = database
    this.#messages = messages
    this.#timing = timing
    const work = {
      prepare: (line: Line) => this.#prepare(line),
      opened: () => {
        this.#deliveries.search()
        void this.#begin()
      },
      notified: (channel: string, payload: string) => {
        const id = idIn(payload)
        if (id !== undefined && this.#channels.has(channel)) this.#deliveries.ring({ id, channel })
      },
      prove: (line: Line) => (this.#isSyncing ? line.run(['select 1::text'], timing.proveLimit) : this.#sync(line, [])),
    }
    this.#link = new Link(client, work, timing)
    this.#deliveries = new Deliveries(this.#link, messages, {
      channels: () => this.#channels.keys(),
      deliver: (channel, id, text) => this.#deliver(channel, id, text),
    })
  }

  /** Resolves when messages published from now on will arrive, with a function that ends the subscription. */
  async add(channel: string, listener: Listener): Promise<() => Promise<void>> {
    const subscriber: Subscriber = { listener, after: undefined }
    const subscribers = this.#channels.get(channel) ?? new Set()
    this.#channels.set(channel, subscribers.add(subscriber))
    this.#unused.delete(channel)
    const end = () => {
      subscribers.delete(subscriber)
      if (subscribers.size > 0 || this.#channels.get(channel) !== subscribers) return
      this.#channels.delete(channel)
      if (this.#listened.has(channel)) this.#unused.add(channel)
    }
    const begun = new Promise<void>((resolve, reject) => {
      this.#joins.push({ channel, subscriber, resolve, reject })
    })
    void this.#begin()
    try {
      await within(SUBSCRIBE_TIMEOUT, begun)
    } catch (error) {
      end()
      throw error
    }
    return async () => end()
  }

  /** The database did not answer: the connection has to prove at once that it is alive. */
  doubt(): void {
    this.#link.doubt()
  }

  async close(): Promise<void> {
    this.#channels.clear()
    for (const { reject } of this.#joins.splice(0)) reject(closedError())
    await this.#link.close()
  }

  #deliver(channel: string, id: number, text: string): void {
    const subscribers = this.#channels.get(channel)
    if (!subscribers) return
    for (const subscriber of [...subscribers]) {
      const { after, listener } = subscriber
      if (after !== undefined && id > after && subscribers.has(subscriber)) listener(text)
    }
  }

  /** Begins the subscriptions that wait, all of them with one statement. */
  async #begin(): Promise<void> {
    try {
      await this.#link.ready()
    } catch (error) {
      for (const { reject } of this.#joins.splice(0)) reject(error)
      return
    }
    const { line } = this.#link
    if (!line || this.#isSyncing || this.#joins.length === 0) return
    const joins = this.#joins
      .splice(0)
      .filter(({ channel, subscriber }) => this.#channels.get(channel)?.has(subscriber))
    try {
      const newest = await this.#link.use(line, (line) => this.#sync(line, joins))
      for (const { subscriber, resolve } of joins) {
        subscriber.after = newest
        resolve()
      }
    } catch (error) {
      if (isAnswer(error)) {
        for (const { reject } of joins) reject(error)
        return
      }
      // What this connection could not do, the next one does when it is there.
      this.#joins.unshift(...joins)
      if (this.#link.line) void this.#begin()
    }
  }

  /**
   * Brings what the connection listens to up to date, and proves that it is alive. Resolves with the newest message's id. One at
   * a time.
   */
  async #sync(line: Line, joins: readonly Join[]): Promise<number> {
    this.#isSyncing = true
    const unused = [...this.#unused]
    const wanted = [...new Set(joins.map(({ channel }) => channel))].filter((channel) => !this.#listened.has(channel))
    const statements = [...unused.map(unlisten), ...wanted.map(listen), this.#messages.newest]
    this.#unused.clear()
    try {
      const [row] = await this.#database.use(() => line.run(statements, this.#timing.proveLimit))
      if (line !== this.#link.line) throw new Error('postgres: the connection for LISTEN was replaced')
      for (const channel of unused) this.#listened.delete(channel)
      for (const channel of wanted) this.#listened.add(channel)
      for (const channel of wanted) if (!this.#channels.has(channel)) this.#unused.add(channel)
      return Number(row?.[0])
    } catch (error) {
      for (const channel of unused) if (this.#listened.has(channel)) this.#unused.add(channel)
      throw error
    } finally {
      this.#isSyncing = false
      // Those that came meanwhile.
      if (this.#joins.length > 0) void this.#begin()
    }
  }

  /** Makes a new connection listen to all channels. */
  async #prepare(line: Line): Promise<void> {
    const channels = [...this.#channels.keys()]
    const statements = [...channels.map(listen), ...this.#messages.incarnation]
    const [row] = await this.#database.use(() => line.run(statements, LISTEN_LIMIT))
    this.#listened = new Set(channels)
    this.#unused.clear()
    for (const channel of channels) if (!this.#channels.has(channel)) this.#unused.add(channel)
    const incarnation = row?.[0] ?? undefined
    if (this.#incarnation !== undefined && incarnation !== this.#incarnation) {
      this.#deliveries.forget()
      for (const subscribers of this.#channels.values()) {
        for (const subscriber of subscribers) if (subscriber.after !== undefined) subscriber.after = 0
      }
    }
    this.#incarnation = incarnation
  }
}

function listen(channel: string): string {
  return `listen "${channel}"`
}

function unlisten(channel: string): string {
  return `unlisten "${channel}"`
}
