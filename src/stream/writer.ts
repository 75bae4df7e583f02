/** Appends what one node produces for one stream to the event log: in order, batched, each event once. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { EventLog, StreamInit } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'

/** How long a failing log is tried again before what waits to be written is given up, in ms. */
const PATIENCE = 30_000

export interface WriterListener {
  /** The stream is in the log. */
  opened?(): void
  /** Events are in the log; `first` is the position of the first one. */
  appended(first: number, events: readonly string[], ended: boolean): void
  /** Nothing more will be written: the stream was deleted, or another node finished it, or the log failed for too long. */
  lost(error?: unknown): void
}

interface Waiting {
  data: string
  /** Set for an event that other nodes may append as well; the log keeps one. */
  batch: string | undefined
}

export class StreamWriter {
  #queue: Waiting[] = []
  #end = false
  #ended = false
  #opened = false
  #lost = false
  #running: Promise<void> | undefined

  /** A stream without a writer of its own is opened only when there turns out to be none. */
  constructor(
    private readonly log: EventLog,
    private readonly session: string,
    private readonly stream: string,
    private readonly init: StreamInit,
    private readonly listener: WriterListener,
  ) {}

  /** Writes a message, as JSON text. */
  push(data: string, options: { end?: boolean; batch?: string } = {}): void {
    if (this.#lost || this.#end) return
    this.#queue.push({ data, batch: options.batch })
    this.#end = options.end ?? false
    this.#start()
  }

  /** Keeps the stream from expiring while there is nothing to write. */
  async refresh(): Promise<void> {
    if (!this.#opened || this.#lost || this.#end || this.#running) return
    const { writer } = this.init
    const batch = { id: randomUUID(), events: [], ...(writer !== undefined && { writer }) }
    const last = await this.log.append(this.session, this.stream, batch)
    if (last === undefined && !this.#ended) this.#lose()
  }

  /** Ends the stream without a further message. */
  end(): void {
    if (this.#lost || this.#end) return
    this.#end = true
    this.#start()
  }

  /** Makes sure the stream is in the log before anything is written to it; false if it is lost. */
  async open(): Promise<boolean> {
    this.#start()
    await this.#running
    return !this.#lost
  }

  /** Resolves when nothing waits to be written. */
  async flushed(): Promise<void> {
    while (this.#running) await this.#running
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      if (this.#isWaiting) this.#start()
    })
  }

  get #isWaiting(): boolean {
    return !this.#lost && !this.#ended && (this.#queue.length > 0 || this.#end)
  }

  async #run(): Promise<void> {
    try {
      if (this.init.writer !== undefined && !this.#opened && !(await this.#open())) return this.#lose()
      while (this.#isWaiting) {
        const id = this.#queue[0]?.batch
        const events = this.#take()
        const end = this.#end && this.#queue.length === 0
        const last = await this.#append({ id: id ?? randomUUID(), events, end })
        if (last === undefined) return this.#lose()
        this.#ended = end
        this.listener.appended(last - events.length + 1, events, end)
      }
    } catch (error) {
      this.#lose(error)
    }
  }

  /** The waiting events up to the next one that is a batch by itself. */
  #take(): string[] {
    const shared = this.#queue.findIndex(({ batch }) => batch !== undefined)
    const count = shared === 0 ? 1 : shared === -1 ? this.#queue.length : shared
    return this.#queue.splice(0, count).map(({ data }) => data)
  }

  async #open(): Promise<boolean> {
    this.#opened = await this.#retry(() => this.log.open(this.session, this.stream, this.init))
    if (this.#opened) this.listener.opened?.()
    return this.#opened
  }

  async #append(batch: { id: string; events: string[]; end: boolean }): Promise<number | undefined> {
    const { writer } = this.init
    const append = () =>
      this.#retry(() => this.log.append(this.session, this.stream, writer === undefined ? batch : { ...batch, writer }))
    const last = await append()
    if (last !== undefined || writer !== undefined) return last
    return (await this.#open()) ? await append() : undefined
  }

  async #retry<T>(attempt: () => Promise<T>): Promise<T> {
    const deadline = monotonic() + PATIENCE
    for (let wait = 50; ; wait = Math.min(wait * 2, 2000)) {
      try {
        return await attempt()
      } catch (error) {
        if (monotonic() + wait > deadline) throw error
        await delay(wait)
      }
    }
  }

  #lose(error?: unknown): void {
    this.#lost = true
    this.#queue = []
    this.listener.lost(error)
  }
}
