/** One SSE connection that follows one stream: first what the log holds, then what is appended, each event once. */
import type { EventLog } from '../backend/backend.js'
import type { Sink } from '../wire/message.js'
import { messageEvent } from '../wire/sse.js'
import { formatEventId } from './event-id.js'
import type { StreamSession } from './stream-session.js'

const PAGE = 256
/** How long a client may take nothing of what was written ahead to it, in ms. */
const STALL_PATIENCE = 2000

export interface ConnectionOptions {
  log: EventLog
  session: StreamSession
  stream: string
  /** Its name in the log; undefined for one that began with its stream, as the answer to a POST. */
  name: string | undefined
  /** The client has everything up to here. */
  position: number
  sink: Sink
  /** Bytes written ahead to a slow reader. */
  maxBuffered: number
  /** Called once, when the connection has ended, by whomever. */
  onclose(): void
  /** Events were asked for that the log no longer holds. */
  ongap(count: number): void
}

export class Connection {
  #position: number
  #reading: Promise<void> | undefined
  #again = false
  #closed = false

  constructor(private readonly options: ConnectionOptions) {
    this.#position = options.position
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
    if (this.#reading || events === undefined || first > this.#position + 1) {
      this.catchUp()
      return
    }
    for (let i = this.#position + 1 - first; i < events.length; i++) {
      // A client that is behind is served from the log, at its own pace.
      if (this.options.sink.buffered > this.options.maxBuffered) {
        this.catchUp()
        return
      }
      this.#writeEvent(first + i, events[i] as string)
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

  /** Writes text that is no event of the stream: a comment, a retry hint, a priming event. */
  write(text: string): void {
    if (!this.#closed) this.options.sink.write(text)
  }

  async #read(): Promise<void> {
    const { log, session, stream, name, sink, maxBuffered } = this.options
    while (this.#again && !this.#closed) {
      this.#again = false
      let slice: Awaited<ReturnType<EventLog['read']>>
      try {
        slice = await log.read(session.id, stream, this.#position, PAGE)
      } catch {
        // The log is away. Closing sends the client to where it can be read, now or here later.
        this.close()
        return
      }
      if (this.#closed) return
      // The stream is gone, or a newer connection follows it and the message that says so was lost.
      if (slice === undefined || slice.reader !== name) {
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
        this.#writeEvent(event.position, event.data)
      }
      if (this.#position < slice.last) this.#again = true
      else if (slice.ended) {
        this.close()
        return
      }
    }
  }

  #writeEvent(position: number, data: string): void {
    const { sink, session, stream } = this.options
    sink.write(messageEvent(formatEventId(session.tag, stream, position), data))
    this.#position = position
  }

  /** The client does not read: its connection is dropped with what it has not taken, which the log keeps. */
  #cut(): void {
    if (this.#closed) return
    this.#closed = true
    this.options.sink.destroy()
    this.options.onclose()
  }
}
