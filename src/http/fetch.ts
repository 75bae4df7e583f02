/** Adapter for web `Request` and `Response`: Hono, Bun, Deno, workers. */
import type { HttpReply, HttpRequest, ReplyHeaders, RequestInfo, Sink } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import type { AuthInfo } from '../wire/sdk.js'
import { leadsToLoopback } from './loopback.js'

/** The host of a URL that was parsed and written again, without port: much cheaper than to parse it once more. */
const HOST = /^https?:\/\/(\[[^\]]*\]|[^:/?#]*)/

export class FetchHttpRequest implements HttpRequest {
  /** Those that were read: `Headers` takes its time for each. */
  readonly #headers = new Map<string, string | undefined>()

  constructor(
    readonly request: Request,
    readonly authInfo: AuthInfo | undefined,
    private readonly parsedBody: unknown,
  ) {}

  get method(): string {
    return this.request.method
  }

  /** A web `Request` says nothing of the connection; its URL has the host that the client named. */
  get cameIn(): HttpRequest['cameIn'] {
    const [, host = ''] = HOST.exec(this.request.url) ?? []
    return leadsToLoopback(host) ? 'loopback' : 'elsewhere'
  }

  header(name: string): string | undefined {
    const known = this.#headers.get(name)
    if (known !== undefined || this.#headers.has(name)) return known
    const value = this.#read(name)
    this.#headers.set(name, value)
    return value
  }

  #read(name: string): string | undefined {
    const value = this.request.headers.get(name)
    // HTTP/2 has `:authority` in place of `host`; the runtime puts it into the URL.
    return value ?? (name === 'host' ? new URL(this.request.url).host : undefined)
  }

  get requestInfo(): RequestInfo {
    return { headers: Object.fromEntries(this.request.headers), url: new URL(this.request.url) }
  }

  async body(limit: number): Promise<unknown> {
    if (this.parsedBody !== undefined) return this.parsedBody
    if (Number(this.header('content-length')) > limit) throw new Refusal('tooLarge')
    const decoder = new TextDecoder('utf-8', { fatal: true })
    let size = 0
    let text = ''
    try {
      for await (const chunk of this.request.body ?? []) {
        size += chunk.byteLength
        if (size > limit) throw new Refusal('tooLarge')
        text += decoder.decode(chunk, { stream: true })
      }
      return JSON.parse(text + decoder.decode())
    } catch (error) {
      throw error instanceof Refusal ? error : new Refusal('notJson')
    }
  }
}

export class FetchHttpReply implements HttpReply {
  /** Resolves as soon as the status is known; the body may be a stream. */
  readonly response: Promise<Response>
  #respond!: (response: Response) => void
  #listeners: (() => void)[] = []
  #answered = false
  #closed = false

  /** @param request What it answers; undefined: nobody can tell whether its client is still there. */
  constructor(private readonly request?: Request) {
    this.response = new Promise((resolve) => {
      this.#respond = resolve
    })
  }

  /** Before there is an answer, only the runtime knows whether its client is still there, if it says so. */
  get closed(): boolean {
    return this.#closed || (!this.#answered && this.request?.signal.aborted === true)
  }

  send(status: number, headers: ReplyHeaders, body?: string): void {
    if (this.#answered) return
    this.#answered = true
    this.#respond(new Response(body ?? null, { status, headers }))
    this.#close()
  }

  stream(headers: ReplyHeaders): Sink {
    if (this.#answered) throw new Error('the request was answered already')
    const isGone = this.closed
    this.#answered = true
    const sink = new FetchSink(() => this.#close())
    this.#respond(new Response(sink.body, { status: 200, headers }))
    // Not every runtime cancels the body of an answer that nobody takes any more.
    if (isGone) sink.destroy()
    return sink
  }

  onclose(listener: () => void): void {
    if (this.#closed) listener()
    else this.#listeners.push(listener)
  }

  #close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const listener of this.#listeners.splice(0)) listener()
  }
}

const ENCODER = new TextEncoder()

class FetchSink implements Sink {
  readonly body: ReadableStream<Uint8Array>
  #controller!: ReadableStreamDefaultController<Uint8Array>
  #closed = false
  readonly #waiting = new Set<() => void>()

  constructor(private readonly onclose: () => void) {
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller
        },
        // The queue's limit is 0, so more is asked for only when everything was read.
        pull: () => this.#drained(),
        cancel: () => this.#close(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: 0 }),
    )
  }

  write(text: string): void {
    if (!this.#closed) this.#controller.enqueue(ENCODER.encode(text))
  }

  end(): void {
    if (this.#closed) return
    this.#controller.close()
    this.#close()
  }

  get buffered(): number {
    return -(this.#controller.desiredSize ?? 0)
  }

  destroy(): void {
    if (this.#closed) return
    this.#controller.error(new Error('the stream was broken off'))
    this.#close()
  }

  drained(timeout: number): Promise<void> {
    if (this.#closed || this.buffered === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const settle = () => {
        clearTimeout(timer)
        this.#waiting.delete(settle)
        resolve()
      }
      const timer = setTimeout(settle, timeout)
      this.#waiting.add(settle)
    })
  }

  /** Several may wait at the same time: the stream's writer, and a connection that reads from the log. */
  #drained(): void {
    for (const settle of [...this.#waiting]) settle()
  }

  #close(): void {
    this.#closed = true
    this.#drained()
    this.onclose()
  }
}
