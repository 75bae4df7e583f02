/** One SSE connection that follows one stream: first what the log holds, then what is appended, each event once. */
import { setTimeout as delay } from 'node:timers/promises'
import type { EventLog, StreamSlice, StreamStanding } from '../backend/backend.js'
import { Unreadable } from '../backend/unavailable.js'
import type { Sink } from '../wire/message.js'
import { messageEvent } from '../wire/sse.js'
import { formatEventId, STANDALONE } from './event-id.js'
import { readMarked } from './mark.js'
import type { SentPosition } from './sent-position.js'
import type { StreamSession } from './stream-session.js'
import { Written } from './written.js'

/** Events that are read from the log at a time. */
export const PAGE = 256
/** How long a client may take nothing of what was written ahead to it, in ms. */
const STALL_PATIENCE = 2000
/** How long a connection that is broken off waits for a slow client, and for any client, in ms. */
const BREAK_PATIENCE = 1000
const LINGER = 100
/** How soon a log that cannot be read is tried again, in ms: at first, and at most. */
const FIRST_RETRY = 100
const MAX_RETRY = 1000

export interface ConnectionOptions {
  log: EventLog
  session: StreamSession
  stream: string
  /** Its name in the log; undefined for one that began with its stream, as the answer to a POST. */
  name: string | undefined
  /** The client has everything up to here. */
  position: number
  /** Of the event at that position, if the client has said it. */
  mark?: number | undefined
  sink: Sink
  /** Bytes written ahead to a slow reader. */
  maxBuffered: number
  /** Called once, when the connection has ended, by whomever. */
  onclose(): void
  /** Of a standalone stream: tells the log how far the connection has got. */
  sent?: SentPosition | undefined
  /** Events were written, up to the connection's position. */
  onwrote?(): void
  /** The log does not know the stream, or not that this connection follows it. Whether that is the end is not said here. */
  onmissing(): Promise<void>
  /** Events that the client has not got are not in the log any more; `false`: the connection must not go on. */
  ongap(slice: StreamSlice): boolean
  /**
   * The log of a standalone stream went backwards: so many events that were written are not in it any more, or others in their
   * places, and the connection goes on from before them. Undefined: it goes back further than the connection knows.
   */
  onregress(count: number | undefined): void
}

export class Connection {
  #position: number
  /** Of a standalone stream: any node writes it, so nobody but its connection sees that its log went backwards. */
  readonly #written: Written | undefined
  /** The log differs from what was written; since when, is to be read. */
  #looksBack = false
  #reading: Promise<void> | undefined
  #again = false
  #closed = false

  constructor(private readonly options: ConnectionOptions) {
    const { stream, position, mark } = options
    this.#position = position
    this.#written = stream === STANDALONE ? new Written() : undefined
    if (mark !== undefined) this.#written?.add(position, mark)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** The session's id. */
  get session(): string {
    return this.options.session.id
  }

  get stream(): string {
    return this.options.stream
  }

  get name(): string | undefined {
    return this.options.name
  }

  /** The position of the last event that was written. */
  get position(): number {
    return this.#position
  }

  /** Events were appended, `first` being the position of the first one; without `events` only the log has them. */
  receive(first: number, events: readonly string[] | undefined, ended: boolean): void {
    if (this.#closed) return
    // A client that is behind is served from the log, at its own pace. Where positions were given out again, or the news is older
    // than what is remembered, the log tells.
    const isNext = events !== undefined && first <= this.#position + 1 && (this.#written?.hasAll(first, events) ?? true)
    if (!isNext || this.#reading || this.#isBehind) {
      this.catchUp()
      return
    }
    for (let i = this.#position + 1 - first; i < events.length; i++) this.#writeEvent(first + i, events[i] as string)
    this.#wrote()
    if (ended) this.close()
  }

  /**
   * Writes the end of the stream, which the log does not take, without ids: nobody comes back for what was answered.
   * False: the client has not yet got what comes before it.
   */
  receiveLate(events: readonly string[], after: number): boolean {
    // The log may have taken some of them without a word, and they were read from there.
    const written = this.#position - after
    if (this.#closed || this.#isBehind || written < 0 || written > events.length) return false
    for (const data of events.slice(written)) this.options.sink.write(messageEvent(undefined, data))
    this.close()
    return true
  }

  /** Resolves when the client has taken enough of what was written to it, or the connection has ended. */
  async room(): Promise<void> {
    const { sink } = this.options
    while (!this.#closed && this.#isBehind) {
      const before = sink.buffered
      await sink.drained(STALL_PATIENCE)
      if (sink.buffered >= before) this.destroy()
    }
  }

  /** Whether it reads the log now, which takes as long as its client does. */
  get isReading(): boolean {
    return this.#reading !== undefined
  }

  /** Whether there is a reason to read the log, where the stream stood so when the connection was at `position`. */
  misses(standing: StreamStanding | undefined, position: number): boolean {
    if (!standing || standing.reader !== this.options.name || standing.ended) return true
    if (this.options.sent?.isLost(standing.sent)) return true
    // What was told since the question was asked is written already.
    return standing.last > this.#position || standing.last < position
  }

  /** Writes what the log holds beyond what was written, and goes on until there is no more. */
  catchUp(): void {
    this.#again = true
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
      // What was told since the last look is not lost.
      if (this.#again && !this.#closed) this.catchUp()
    })
  }

  /** Writes text that is no event of the stream: a comment, a retry hint, a priming event, a response of ours. */
  write(text: string): void {
    if (!this.#closed) this.options.sink.write(text)
  }

  /** Ends the connection; the client may come back with its last event id. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.options.sink.end()
    this.options.onclose()
  }

  /** Breaks the connection off; before that, the client has a moment to take what was written. */
  async breakOff(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.options.onclose()
    const { sink } = this.options
    await sink.drained(BREAK_PATIENCE)
    // What has arrived and was not read is lost to many clients when the connection breaks.
    await delay(LINGER)
    sink.destroy()
  }

  /** Breaks the connection off at once, with what the client has not taken; the log keeps it. */
  destroy(): void {
    if (this.#closed) return
    this.#closed = true
    this.options.sink.destroy()
    this.options.onclose()
  }

  /** The connection went away by itself. */
  gone(): void {
    if (this.#closed) return
    this.#closed = true
    this.options.onclose()
  }

  get #isBehind(): boolean {
    return this.options.sink.buffered > this.options.maxBuffered
  }

  async #read(): Promise<void> {
    let retry = FIRST_RETRY
    while (this.#again && !this.#closed) {
      this.#again = false
      const { log, session, stream } = this.options
      let slice: StreamSlice | undefined
      try {
        slice = await log.read(session.id, stream, this.#readAfter, PAGE)
      } catch (error) {
        // To ask again does not help; a client that comes back is told.
        if (error instanceof Unreadable) return this.breakOff()
        // The log is away, and the backend has told of it. The client need not know.
        await delay(retry * (0.5 + Math.random()))
        retry = Math.min(retry * 2, MAX_RETRY)
        this.#again = true
        continue
      }
      retry = FIRST_RETRY
      if (!this.#closed) await this.#take(slice)
    }
  }

  async #take(slice: StreamSlice | undefined): Promise<void> {
    // A log that went backwards may not know of the stream, or of this connection.
    if (!slice || (slice.reader === undefined && this.options.name !== undefined)) return this.options.onmissing()
    // A newer connection follows the stream, and the message that says so was lost.
    if (slice.reader !== this.options.name) return this.close()
    // A log that went backwards is mended by the stream's one writer; where there are many, the connection gives way.
    if (this.#written ? !this.#agree(this.#written, slice) : slice.last < this.#position) return
    if (slice.first > this.#position + 1) {
      if (!this.options.ongap(slice)) return
      this.#position = slice.first - 1
      this.#written?.begin(this.#position, undefined)
    }
    const before = this.#position
    for (const { position, data } of slice.events) {
      if (position <= this.#position) continue
      await this.room()
      if (this.#closed) return
      this.#writeEvent(position, data)
    }
    if (this.#position > before) this.#wrote()
    if (this.#position < slice.last) this.#again = true
    else if (slice.ended) this.close()
  }

  /** With the last event that was written, which shows whether the log still has it. */
  get #readAfter(): number {
    if (!this.#written) return this.#position
    return Math.max(0, (this.#looksBack ? this.#written.first : this.#position) - 1)
  }

  /**
   * Sees to it that the log holds what was written up to the connection's position, which else goes back to where they part. False:
   * where that is, is to be read first.
   */
  #agree(written: Written, slice: StreamSlice): boolean {
    const { last, events } = slice
    if (written.isEmpty && last >= this.#position) {
      const [event] = events
      written.begin(this.#position, event?.position === this.#position ? event.data : undefined)
    }
    const differs = written.isEmpty || !written.isIn(slice)
    const looksBack = differs && !written.isEmpty && !this.#looksBack
    this.#looksBack = looksBack
    if (looksBack) this.#again = true
    else if (differs) this.#goBack(written, slice)
    return !looksBack
  }

  #goBack(written: Written, slice: StreamSlice): void {
    const before = this.#position
    // Nothing that is remembered is left: what the log has in its place is new; of what it has before that, nobody knows.
    const unknown = written.isEmpty ? slice.last : Math.min(written.first - 1, slice.last)
    const same = written.isEmpty ? undefined : written.goBack(slice)
    this.#position = same ?? Math.max(unknown, slice.first - 1)
    this.options.sent?.lose()
    this.options.onregress(same === undefined ? undefined : before - same)
  }

  #wrote(): void {
    this.options.sent?.note()
    this.options.onwrote?.()
  }

  #writeEvent(position: number, data: string): void {
    const { sink, session, stream } = this.options
    const { mark, text } = this.#written ? readMarked(data) : { mark: undefined, text: data }
    sink.write(messageEvent(formatEventId(session.tag, stream, position, mark), text))
    if (mark !== undefined) this.#written?.add(position, mark)
    this.#position = position
  }
}
