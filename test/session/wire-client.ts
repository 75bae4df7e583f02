/** The client's side of the wire, message by message, straight into a handler: no network, no SDK. */

import type { AuthInfo, SessionHandler } from '../../src/index.js'
import type { JSONRPCMessage } from '../../src/wire/jsonrpc.js'

export const CLIENT_INFO = { name: 'wire-client', version: '1.2.3' }
export const VERSION = '2025-11-25'

export interface Answer {
  status: number
  sessionId: string | undefined
  retryAfter: string | undefined
  /** The JSON body, or the last message of an SSE body. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
  body: any
  /** Messages of an SSE body. */
  events: SseEvent[]
}

export interface SseEvent {
  id: string | undefined
  // biome-ignore lint/suspicious/noExplicitAny: as above
  message: any
}

export interface SendOptions {
  sessionId?: string | undefined
  authInfo?: AuthInfo | undefined
  headers?: Record<string, string>
}

export function authOf(clientId: string, sub?: string): AuthInfo {
  return { token: `token of ${clientId}`, clientId, scopes: [], ...(sub !== undefined && { extra: { sub } }) }
}

export async function send(
  handler: Pick<SessionHandler, 'fetch'>,
  method: string,
  body: unknown,
  { sessionId, authInfo, headers }: SendOptions = {},
): Promise<Response> {
  const request = new Request('http://localhost/mcp', {
    method,
    headers: {
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      ...(sessionId !== undefined && { 'mcp-session-id': sessionId }),
      ...headers,
    },
  })
  // parsed already: reading a body takes turns of the event loop that no test can count
  const parsedBody = body === undefined ? undefined : JSON.parse(JSON.stringify(body))
  return handler.fetch(request, { ...(authInfo && { authInfo }), ...(parsedBody !== undefined && { parsedBody }) })
}

export async function read(response: Response): Promise<Answer> {
  const answer: Answer = {
    status: response.status,
    sessionId: response.headers.get('mcp-session-id') ?? undefined,
    retryAfter: response.headers.get('retry-after') ?? undefined,
    body: undefined,
    events: [],
  }
  if (response.headers.get('content-type')?.startsWith('text/event-stream')) {
    for await (const event of new EventStream(response)) answer.events.push(event)
    answer.body = answer.events.at(-1)?.message
  } else {
    const text = await response.text()
    answer.body = text === '' ? undefined : JSON.parse(text)
  }
  return answer
}

/** An open SSE answer. */
export class EventStream implements AsyncIterable<SseEvent> {
  readonly status: number
  readonly sessionId: string | null
  /** Id of the newest event, priming events included. */
  lastEventId: string | undefined
  #reader: ReadableStreamDefaultReader<Uint8Array>
  #text = ''
  #decoder = new TextDecoder()

  constructor(readonly response: Response) {
    this.status = response.status
    this.sessionId = response.headers.get('mcp-session-id')
    this.#reader = (response.body ?? new Blob([]).stream()).getReader()
  }

  /** The next message; undefined: the stream has ended. */
  async next(): Promise<SseEvent | undefined> {
    for (;;) {
      const end = this.#text.indexOf('\n\n')
      if (end >= 0) {
        const block = this.#text.slice(0, end)
        this.#text = this.#text.slice(end + 2)
        const field = (name: string) =>
          block
            .split('\n')
            .find((line) => line.startsWith(`${name}:`))
            ?.slice(name.length + 1)
            .trim()
        const id = field('id')
        if (id !== undefined) this.lastEventId = id
        const data = field('data')
        if (data) return { id, message: JSON.parse(data) }
        continue
      }
      const { done, value } = await this.#reader.read()
      if (done) return undefined
      this.#text += this.#decoder.decode(value, { stream: true })
    }
  }

  /** Reads until the stream ends. */
  async rest(): Promise<SseEvent[]> {
    const events: SseEvent[] = []
    for await (const event of this) events.push(event)
    return events
  }

  async *[Symbol.asyncIterator](): AsyncIterator<SseEvent> {
    for (let event = await this.next(); event; event = await this.next()) yield event
  }

  /** The client goes away. */
  cancel(): Promise<void> {
    return this.#reader.cancel()
  }
}

/** A client that keeps its session id, and can go from node to node with it. */
export class WireClient {
  #id = 0

  constructor(
    public handler: Pick<SessionHandler, 'fetch'>,
    public readonly sessionId: string,
    private readonly authInfo?: AuthInfo,
    private readonly headers: Record<string, string> = {},
  ) {}

  on(handler: Pick<SessionHandler, 'fetch'>): this {
    this.handler = handler
    return this
  }

  async post(message: JSONRPCMessage | JSONRPCMessage[], options: SendOptions = {}): Promise<Answer> {
    return read(await this.send('POST', message, options))
  }

  send(method: string, body: unknown, options: SendOptions = {}): Promise<Response> {
    const headers = { 'mcp-protocol-version': VERSION, ...(options.headers ?? this.headers) }
    return send(this.handler, method, body, {
      sessionId: this.sessionId,
      authInfo: this.authInfo,
      ...options,
      headers,
    })
  }

  request(method: string, params?: Record<string, unknown>, options?: SendOptions): Promise<Answer> {
    return this.post({ jsonrpc: '2.0', id: ++this.#id, method, ...(params && { params }) }, options)
  }

  notify(method: string, params?: Record<string, unknown>, options?: SendOptions): Promise<Answer> {
    return this.post({ jsonrpc: '2.0', method, ...(params && { params }) }, options)
  }

  respond(id: string | number, result: Record<string, unknown> = {}, options?: SendOptions): Promise<Answer> {
    return this.post({ jsonrpc: '2.0', id, result }, options)
  }

  async get(lastEventId?: string, options: SendOptions = {}): Promise<EventStream> {
    const headers = {
      ...(options.headers ?? this.headers),
      ...(lastEventId !== undefined && { 'last-event-id': lastEventId }),
    }
    return new EventStream(await this.send('GET', undefined, { ...options, headers }))
  }

  async delete(options?: SendOptions): Promise<Answer> {
    return read(await this.send('DELETE', undefined, options))
  }
}

export interface InitializeOptions extends SendOptions {
  protocolVersion?: string
  capabilities?: Record<string, unknown>
}

/** An `initialize`, and its answer. */
export async function initialize(
  handler: Pick<SessionHandler, 'fetch'>,
  { protocolVersion = VERSION, capabilities = {}, ...options }: InitializeOptions = {},
): Promise<Answer> {
  const params = { protocolVersion, capabilities, clientInfo: CLIENT_INFO }
  return read(await send(handler, 'POST', { jsonrpc: '2.0', id: 'init', method: 'initialize', params }, options))
}

/** A session whose handshake is done. */
export async function openSession(
  handler: Pick<SessionHandler, 'fetch'>,
  options: InitializeOptions = {},
): Promise<WireClient> {
  const answer = await initialize(handler, options)
  if (answer.status !== 200 || answer.sessionId === undefined) {
    throw new Error(`initialize: ${answer.status} ${JSON.stringify(answer.body)}`)
  }
  const client = new WireClient(handler, answer.sessionId, options.authInfo, options.headers)
  const accepted = await client.notify('notifications/initialized')
  if (accepted.status !== 202) throw new Error(`initialized: ${accepted.status}`)
  return client
}
