/** Appends what one node produces for one stream to the event log: in order, batched, each event once. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { EventLog, StreamInit } from '../backend/backend.js'

/** How long a failing log is tried again before what waits to be written is given up. */
const PATIENCE = 30_000

export interface WriterListener {
  /** The stream is in the log. */
  opened(): void
  /** Events are in the log; `first` is the position of the first one. */
  appended(first: number, events: readonly string[], ended: boolean): void
  /** Nothing more will be written: the stream was deleted, or another node finished it, or the log failed for too long. */
  lost(error?: unknown): void
}

export class StreamWriter {
  #queue: string[] = []
  #end = false
  #ended = false
  #opened = false
  #lost = false
  #running: Promise<void> | undefined

  constructor(
    private readonly log: EventLog,
    private readonly session: string,
    private readonly stream: string,
    private readonly init: StreamInit,
    private readonly listener: WriterListener,
  ) {}

  /** Writes a message, as JSON text. */
  push(data: string, end = false): void {
    if (this.#lost || this.#end) return
    this.#queue.push(data)
    this.#end = end
    this.#start()
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
      if (this.#waiting) this.#start()
    })
  }

  get #waiting(): boolean {
    return !this.#lost && !this.#ended && (this.#queue.length > 0 || this.#end)
  }

  async #run(): Promise<void> {
    try {
      if (!this.#opened) {
        if (!(await this.#retry(() => this.log.open(this.session, this.stream, this.init)))) return this.#lose()
        this.#opened = true
        this.listener.opened()
      }
      while (this.#waiting) {
        const events = this.#queue
        this.#queue = []
        const end = this.#end
        const { writer } = this.init
        const batch = { id: randomUUID(), events, end, ...(writer !== undefined && { writer }) }
        const last = await this.#retry(() => this.log.append(this.session, this.stream, batch))
        if (last === undefined) return this.#lose()
        this.#ended = end
        this.listener.appended(last - events.length + 1, events, end)
      }
    } catch (error) {
      this.#lose(error)
    }
  }

  async #retry<T>(attempt: () => Promise<T>): Promise<T> {
    const deadline = Date.now() + PATIENCE
    for (let wait = 50; ; wait = Math.min(wait * 2, 2000)) {
      try {
        return await attempt()
      } catch (error) {
        if (Date.now() + wait > deadline) throw error
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
