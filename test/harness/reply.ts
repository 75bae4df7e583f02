/** What a request is answered with. */
import { type SseBlock, SseParser } from './sse.js'
import { within } from './within.js'

/** An answer that was read to its end. */
export interface Answer {
  status: number
  headers: Record<string, string>
  sessionId: string | undefined
  retryAfter: string | undefined
  text: string
  /** The text as JSON, if it is; of an SSE body, the last message. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
  body: any
  /** Of an SSE body: the events that carry a message. */
  events: SseBlock[]
}

/** An answer whose head is there, and whose body is read as it comes. */
export class Reply implements AsyncIterable<SseBlock> {
  /** Id of the newest event that was read, priming events included. */
  lastEventId: string | undefined
  readonly #parser = new SseParser()
  readonly #decoder = new TextDecoder()
  #blocks: SseBlock[] = []

  constructor(
    readonly status: number,
    readonly headers: Record<string, string>,
    private readonly chunks: AsyncIterator<Uint8Array>,
    /** Goes away without a word; what is on its way is lost. */
    readonly leave: () => Promise<void>,
    /** Longest wait for more of the body, in ms; undefined: for ever. */
    private readonly patience?: number,
  ) {}

  get sessionId(): string | undefined {
    return this.headers['mcp-session-id']
  }

  get isStream(): boolean {
    return this.headers['content-type'] === 'text/event-stream'
  }

  /** The next block, comments and priming events included; undefined: the answer has ended. */
  async block(): Promise<SseBlock | undefined> {
    while (this.#blocks.length === 0) {
      const text = await this.#more()
      if (text === undefined) {
        const { pending } = this.#parser
        if (pending !== '') throw new Error(`cut off in the middle of an event: ${pending.slice(0, 100)}`)
        return undefined
      }
      this.#blocks = this.#parser.push(text)
    }
    const block = this.#blocks.shift()
    if (block?.id !== undefined) this.lastEventId = block.id
    return block
  }

  /** The next event that carries a message; undefined: the answer has ended. */
  async next(): Promise<SseBlock | undefined> {
    for (;;) {
      const block = await this.block()
      if (!block || block.message !== undefined) return block
    }
  }

  /** The events that carry a message, until the answer ends. */
  async rest(): Promise<SseBlock[]> {
    const events: SseBlock[] = []
    for await (const event of this) events.push(event)
    return events
  }

  /** The events that carry a message, and whether the connection broke after them instead of ending in good order. */
  async untilGone(): Promise<{ events: SseBlock[]; broken: boolean }> {
    const events: SseBlock[] = []
    try {
      for await (const event of this) events.push(event)
      return { events, broken: false }
    } catch {
      return { events, broken: true }
    }
  }

  async *[Symbol.asyncIterator](): AsyncIterator<SseBlock> {
    for (let event = await this.next(); event; event = await this.next()) yield event
  }

  /** The whole body. */
  async text(): Promise<string> {
    let text = ''
    for (let more = await this.#more(); more !== undefined; more = await this.#more()) text += more
    return text
  }

  /** Reads to the end. */
  async answer(): Promise<Answer> {
    const { status, headers, sessionId } = this
    const head = { status, headers, sessionId, retryAfter: headers['retry-after'] }
    if (this.isStream) {
      const events = await this.rest()
      return { ...head, text: '', body: events.at(-1)?.message, events }
    }
    const text = await this.text()
    return { ...head, text, body: parsed(text), events: [] }
  }

  async #more(): Promise<string | undefined> {
    const next = this.chunks.next()
    const { value, done } = await (this.patience === undefined
      ? next
      : within(next, 'more of an answer, or its end', this.patience))
    return done ? undefined : this.#decoder.decode(value, { stream: true })
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
