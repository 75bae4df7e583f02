/** One SSE connection that follows one stream: first what the log holds, then what is appended, each event once. */
import type { EventLog } from '../backend/backend.js'
import type { Sink } from '../wire/message.js'
import { messageEvent } from '../wire/sse.js'
import { formatEventId } from './event-id.js'

const PAGE = 256
/** How long a reader that is behind may take nothing of what was written to it, in ms. */
const STALL_PATIENCE = 2000

export interface FollowerOptions {
  log: EventLog
  session: string
  tag: string
  stream: string
  /** Which of this node's connections it is; they are counted. */
  turn: number
  /** As the log knows it; undefined for one that began with its stream. */
  reader: string | undefined
  /** The client has everything up to here. */
  position: number
  sink: Sink
  maxBuffered: number
  /** Called once, when the connection is to be forgotten. */
  onclose(): void
  /** Events were asked for that the log no longer holds. */
  ongap(count: number): void
}

export class Follower {
  #position: number
  #reading: Promise<void> | undefined
  #again = false
  #closed = false

  constructor(private readonly options: FollowerOptions) {
    this.#position = options.position
  }

  get closed(): boolean {
    return this.#closed
  }

  get turn(): number {
    return this.options.turn
  }

  /** The position of the last event that was written. */
  get position(): number {
    return this.#position
  }

  /** Events were appended, `first` being the position of the first one; without `events` only the log has them. */
  receive(first: number, events: readonly string[] | undefined, ended: boolean): void {
    if (this.#closed) return
    if (this.#reading || events === undefined || first > this.#position + 1) {
      this.catchUp()
      return
    }
    for (let i = this.#position + 1 - first; i < events.length; i++) {
      // a reader that is behind reads from the log, at its own pace
      if (this.options.sink.buffered > this.options.maxBuffered) {
        this.catchUp()
        return
      }
      this.#write(first + i, events[i] as string)
    }
    if (ended) this.close()
  }

  /** Writes what the log holds beyond what was written, and goes on until there is no more. */
  catchUp(): void {
    this.#again = true
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
  }

  /** Ends the connection; the client may come back with its last event id. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.options.sink.end()
    this.options.onclose()
  }

  /** The connection went away by itself. */
  gone(): void {
    if (this.#closed) return
    this.#closed = true
    this.options.onclose()
  }

  /** Sends text that is no event. */
  comment(text: string): void {
    if (!this.#closed) this.options.sink.write(text)
  }

  async #read(): Promise<void> {
    const { log, session, stream, sink, maxBuffered } = this.options
    while (this.#again && !this.#closed) {
      this.#again = false
      let slice: Awaited<ReturnType<EventLog['read']>>
      try {
        slice = await log.read(session, stream, this.#position, PAGE)
      } catch {
        // The log is away. Closing sends the client to where it can be read, now or here later.
        this.close()
        return
      }
      if (this.#closed) return
      // gone, or a newer connection follows it, which this one was not told
      if (slice === undefined || slice.reader !== this.options.reader) {
        this.close()
        return
      }
      if (slice.first > this.#position + 1) {
        this.options.ongap(slice.first - this.#position - 1)
        this.#position = slice.first - 1
      }
      for (const event of slice.events) {
        if (event.position <= this.#position) continue
        while (sink.buffered > maxBuffered) {
          const before = sink.buffered
          await sink.drained(STALL_PATIENCE)
          if (this.#closed) return
          if (sink.buffered >= before) return this.#cut()
        }
        this.#write(event.position, event.data)
      }
      if (this.#position < slice.last) this.#again = true
      else if (slice.ended) {
        this.close()
        return
      }
    }
  }

  #write(position: number, data: string): void {
    const { sink, tag, stream } = this.options
    sink.write(messageEvent(formatEventId(tag, stream, position), data))
    this.#position = position
  }

  /** A reader that does not read: its connection is dropped with what it has not read, and the log has it all. */
  #cut(): void {
    if (this.#closed) return
    this.#closed = true
    this.options.sink.destroy()
    this.options.onclose()
  }
}
