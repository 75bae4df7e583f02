/** Appends what one node produces for one stream to the event log: in order, in bounded batches, each event once. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { EventBatch, EventLog, StreamInit } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'

/** Events and characters of one batch; a single event may be longer. */
const MAX_BATCH_EVENTS = 256
const MAX_BATCH_SIZE = 256 * 1024
/** Above this many events or characters in the queue, whoever sends has to wait. */
const MAX_QUEUED_EVENTS = 1024
const MAX_QUEUED_SIZE = 1024 * 1024
/** Characters that may be queued for a sender that does not wait. */
const MAX_UNAWAITED_SIZE = 64 * 1024 * 1024
/** How long the last event of a stream waits for the log before it goes out without an id, in ms. */
const ANSWER_PATIENCE = 1000
/** How soon a failing log is tried again, in ms: at first, and at most. */
const FIRST_RETRY = 50
const MAX_RETRY = 1000

export interface WriterListener {
  /** The stream is in the log, for the first time. */
  opened?(): void
  /** Events are in the log; `first` is the position of the first one. The next ones are written when this has resolved. */
  appended(first: number, events: readonly string[], ended: boolean): Promise<void> | void
  /**
   * The log does not take the end of the stream, which waits with these events before it. `after` is the position of the
   * last one that is known to be in the log. False: they cannot go out now, and it is asked again.
   */
  late?(events: readonly string[], after: number): boolean
  /** Nothing is left to be written for now. */
  idle?(): void
  /** Nothing more will be written: the session was deleted, or another node has taken the stream over. */
  lost(): void
}

interface Queued {
  data: string
  /** Set for an event that other nodes may append as well; the log keeps one. */
  batch: string | undefined
}

export class StreamWriter {
  readonly #queue: Queued[] = []
  #queuedSize = 0
  /** Taken from the queue, and on their way to the log. */
  #appending: readonly string[] = []
  #end = false
  #ended = false
  #opened = false
  #lost = false
  #stopped = false
  /** Of the last event that the log has taken from here; undefined: none yet. */
  #position: number | undefined
  #running: Promise<void> | undefined
  #answerTimer: NodeJS.Timeout | undefined
  /** When the end of the stream has waited long enough for the log, by the monotonic clock. */
  #answerDue = 0
  /** The client is waited for, not the log. */
  #delivering = false
  /** Senders that wait until the queue is short enough. */
  #waiting: (() => void)[] = []

  /** A stream without a writer of its own is opened only when there turns out to be none. */
  constructor(
    private readonly log: EventLog,
    private readonly session: string,
    readonly stream: string,
    private readonly init: StreamInit,
    private readonly listener: WriterListener,
  ) {
    if (init.writer !== undefined) this.#position = init.base
  }

  /** Writes a message, as JSON text. */
  push(data: string, options: { end?: boolean; batch?: string } = {}): void {
    if (this.#isDone || this.#end) return
    this.#queue.push({ data, batch: options.batch })
    this.#queuedSize += data.length
    if (options.end) this.#finish()
    this.#start()
  }

  /** Whether so much is queued that nothing more should be pushed: the sender does not wait for room. */
  get overfull(): boolean {
    return this.#queuedSize > MAX_UNAWAITED_SIZE
  }

  /** Ends the stream without a further message. */
  end(): void {
    if (this.#isDone || this.#end) return
    this.#finish()
    this.#start()
  }

  /** Resolves when more may be pushed: at once (undefined), unless the log or the client is slower than the sender. */
  room(): Promise<void> | undefined {
    if (this.#hasRoom) return undefined
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Keeps the stream from expiring while there is nothing to write. */
  async refresh(): Promise<void> {
    if (!this.#opened || this.#isDone || this.#end || this.#running) return
    await this.#append({ id: randomUUID(), events: [] }).then((last) => {
      if (last === undefined && !this.#ended) this.#lose()
    })
  }

  /** Makes sure the stream is in the log before anything is written to it; false if it is lost. */
  async open(): Promise<boolean> {
    this.#start()
    await this.#running
    return !this.#isDone
  }

  /** Resolves when nothing waits to be written. */
  async flushed(): Promise<void> {
    while (this.#running) await this.#running
  }

  /** Writes nothing more; what is queued is dropped. */
  stop(): void {
    this.#stopped = true
    this.#drop()
  }

  get #isDone(): boolean {
    return this.#lost || this.#stopped
  }

  get #hasRoom(): boolean {
    return this.#isDone || (this.#queue.length < MAX_QUEUED_EVENTS && this.#queuedSize < MAX_QUEUED_SIZE)
  }

  /** A position that the log gave out; it stands behind it only if it went backwards. */
  get #after(): number {
    return this.#position ?? 0
  }

  get #isWaiting(): boolean {
    return !this.#isDone && !this.#ended && (this.#queue.length > 0 || this.#end)
  }

  #finish(): void {
    this.#end = true
    if (!this.listener.late) return
    this.#answerDue = monotonic() + ANSWER_PATIENCE
    this.#awaitAnswer(ANSWER_PATIENCE)
  }

  #awaitAnswer(ms: number): void {
    this.#answerTimer = setTimeout(() => this.#deliverLate(), ms)
    this.#answerTimer.unref()
  }

  #deliverLate(): void {
    if (this.#ended || this.#isDone) return
    const left = this.#answerDue - monotonic()
    if (this.#delivering) this.#awaitAnswer(ANSWER_PATIENCE)
    else if (left > 0) this.#awaitAnswer(left)
    else {
      const events = [...this.#appending, ...this.#queue.map(({ data }) => data)]
      if (!this.listener.late?.(events, this.#after)) this.#awaitAnswer(ANSWER_PATIENCE)
    }
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      if (this.#isWaiting) this.#start()
      else this.listener.idle?.()
    })
  }

  async #run(): Promise<void> {
    if (this.init.writer !== undefined && !this.#opened && !(await this.#open())) return this.#lose()
    while (this.#isWaiting) {
      const id = this.#queue[0]?.batch ?? randomUUID()
      const events = this.#take()
      const end = this.#end && this.#queue.length === 0
      this.#appending = events
      const last = await this.#append({ id, events, end })
      this.#appending = []
      if (last === undefined) return this.#lose()
      this.#position = last
      this.#ended = end
      if (end) clearTimeout(this.#answerTimer)
      await this.#deliver(last - events.length + 1, events, end)
      this.#wakeSenders()
    }
  }

  async #deliver(first: number, events: readonly string[], end: boolean): Promise<void> {
    const before = monotonic()
    this.#delivering = true
    await this.listener.appended(first, events, end)
    this.#delivering = false
    this.#answerDue += monotonic() - before
  }

  /** The waiting events up to the limits of a batch, or the next one that is a batch by itself. */
  #take(): string[] {
    const events: string[] = []
    let size = 0
    for (const { data, batch } of this.#queue) {
      if (events.length > 0 && (batch !== undefined || size + data.length > MAX_BATCH_SIZE)) break
      events.push(data)
      size += data.length
      if (batch !== undefined || events.length === MAX_BATCH_EVENTS) break
    }
    this.#queue.splice(0, events.length)
    this.#queuedSize -= size
    return events
  }

  async #open(): Promise<boolean> {
    const init = { ...this.init, base: Math.max(this.init.base ?? 0, this.#after) }
    const opened = (await this.#retry(() => this.log.open(this.session, this.stream, init))) ?? false
    if (opened && !this.#opened) this.listener.opened?.()
    this.#opened = opened
    return opened
  }

  async #append(batch: Pick<EventBatch, 'id' | 'events' | 'end'>): Promise<number | undefined> {
    const { writer } = this.init
    const append = () => {
      // A log that stands behind `after` drops what it has: only where nobody else may have stored something since.
      const whole = writer === undefined ? batch : { ...batch, writer, after: this.#after }
      return this.#retry(() => this.log.append(this.session, this.stream, whole))
    }
    const last = await append()
    if (last !== undefined || this.#isDone) return last
    // There is no such stream: it was never there, it expired, or the log went backwards. Else it is another's by now.
    return (await this.#open()) ? await append() : undefined
  }

  /** As often as it takes; undefined if the writer is stopped meanwhile. */
  async #retry<T>(attempt: () => Promise<T>): Promise<T | undefined> {
    for (let wait = FIRST_RETRY; !this.#stopped; wait = Math.min(wait * 2, MAX_RETRY)) {
      try {
        return await attempt()
      } catch {
        // The backend has told of the failure. At random, so that the writers of a node do not all come back at once.
        await delay(wait * (0.5 + Math.random() / 2))
      }
    }
    return undefined
  }

  #lose(): void {
    if (this.#isDone) return
    this.#lost = true
    this.#drop()
    this.listener.lost()
  }

  #drop(): void {
    clearTimeout(this.#answerTimer)
    this.#queue.length = 0
    this.#queuedSize = 0
    this.#wakeSenders()
  }

  #wakeSenders(): void {
    if (this.#waiting.length === 0 || !this.#hasRoom) return
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
