/** HTTP as it is on the wire, through both adapters: requests that no client library would make, answers byte by byte. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import type { AuthInfo, FetchOptions } from '../../src/index.js'
import { within } from '../harness/within.js'

/** How long anything here may take that should happen at once, in ms. */
const PATIENCE = 5000

export interface Sent {
  method?: string
  /** Beside the ones that a well-behaved client sends; undefined leaves one of those out. */
  headers?: Record<string, string | undefined>
  /** An object is sent as JSON; chunks are sent without a Content-Length. */
  body?: unknown
  chunks?: (string | Buffer)[]
}

/** What answers: a handler, or a transport by itself. */
export interface Served {
  node(req: http.IncomingMessage & { auth?: AuthInfo | undefined }, res: http.ServerResponse): unknown
  fetch(request: Request, options: FetchOptions): Promise<Response>
}

export interface Door {
  readonly name: DoorName
  /** Sends a request; resolves with the head of the answer. */
  open(sent: Sent): Promise<Stream>
  /** Sends a request; resolves with the whole answer. */
  send(sent: Sent): Promise<Answer>
}

export type DoorName = 'node' | 'fetch'
export const DOORS: readonly DoorName[] = ['node', 'fetch']

export interface Answer {
  status: number
  headers: Record<string, string>
  text: string
  // biome-ignore lint/suspicious/noExplicitAny: whatever was answered, to be compared
  json: any
}

/** The verified auth of `Authorization: Bearer client/subject`, as middleware in front would leave it. */
function authOf(header: string | null | undefined): AuthInfo | undefined {
  if (!header) return undefined
  const token = header.replace('Bearer ', '')
  const [clientId = '', sub] = token.split('/')
  return { token, clientId, scopes: ['all'], ...(sub !== undefined && { extra: { sub } }) }
}

function headersOf({ headers, method = 'POST' }: Sent): Record<string, string> {
  const all: Record<string, string | undefined> = {
    accept: 'application/json, text/event-stream',
    ...(method === 'POST' && { 'content-type': 'application/json' }),
    ...headers,
  }
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

function bytesOf({ body }: Sent): string | Buffer | undefined {
  if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) return body
  return JSON.stringify(body)
}

/** A way in: a real server on loopback, or a call of `fetch`. */
export async function door(name: DoorName, served: Served): Promise<Door> {
  const open = name === 'node' ? nodeDoor(await listen(served.node)) : fetchDoor(served)
  return {
    name,
    open,
    async send(sent) {
      const stream = await open(sent)
      const text = await stream.text()
      return { status: stream.status, headers: stream.headers, text, json: json(text) }
    },
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A server of node:http on loopback until the test ends; its port. */
export async function listen(listener: Served['node']): Promise<number> {
  const server = http.createServer((req, res) => {
    const auth = authOf(req.headers.authorization)
    void listener(Object.assign(req, auth && { auth }), res)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  )
  return (server.address() as AddressInfo).port
}

export function nodeDoor(port: number, path = '/mcp'): Door['open'] {
  return (sent) => {
    const body = bytesOf(sent)
    const answered = new Promise<Stream>((resolve, reject) => {
      const headers = headersOf(sent)
      if (body !== undefined && headers['content-length'] === undefined) {
        headers['content-length'] = String(Buffer.byteLength(body))
      }
      const request = http.request({
        host: '127.0.0.1',
        port,
        path,
        method: sent.method ?? 'POST',
        headers,
        agent: false,
      })
      request.on('error', reject)
      request.on('response', (response) => {
        request.off('error', reject).on('error', () => {})
        const names = Object.entries(response.headers).map(([key, value]) => [key, String(value)])
        resolve(new Stream(response.statusCode ?? 0, Object.fromEntries(names), response, () => request.destroy()))
      })
      for (const chunk of sent.chunks ?? []) request.write(chunk)
      request.end(body)
    })
    return within(answered, `an answer to ${sent.method ?? 'POST'}`, PATIENCE)
  }
}

export function fetchDoor(served: Pick<Served, 'fetch'>): Door['open'] {
  return async (sent) => {
    const { method = 'POST', chunks } = sent
    const headers = headersOf(sent)
    const body = chunks ? streamOf(chunks) : bytesOf(sent)
    if (typeof body === 'string' || Buffer.isBuffer(body)) headers['content-length'] ??= String(Buffer.byteLength(body))
    // `duplex` is missing from the types of Node 20
    const init = { method, headers, ...(body !== undefined && { body }), ...(chunks && { duplex: 'half' }) }
    const request = new Request('http://127.0.0.1/mcp', init as RequestInit)
    const authInfo = authOf(request.headers.get('authorization'))
    const response = await within(
      served.fetch(request, authInfo ? { authInfo } : {}),
      `an answer to ${method}`,
      PATIENCE,
    )
    const reader = response.body?.getReader()
    const chunksOf = async function* () {
      for (;;) {
        const next = await reader?.read()
        if (!next || next.done) return
        yield next.value
      }
    }
    return new Stream(response.status, Object.fromEntries(response.headers), chunksOf(), () => void reader?.cancel())
  }
}

function streamOf(chunks: (string | Buffer)[]): ReadableStream<Uint8Array> {
  const rest = [...chunks]
  return new ReadableStream({
    pull(controller) {
      const chunk = rest.shift()
      if (chunk === undefined) controller.close()
      else controller.enqueue(Buffer.from(chunk))
    },
  })
}

export interface SseEvent {
  id?: string
  event?: string
  retry?: number
  data?: string
  comment?: string
  // biome-ignore lint/suspicious/noExplicitAny: whatever was sent, to be compared
  message?: any
}

/** An answer whose body is read as it comes. */
export class Stream {
  #chunks: AsyncIterator<Uint8Array>
  #decoder = new TextDecoder()
  #pending = ''

  constructor(
    readonly status: number,
    readonly headers: Record<string, string>,
    chunks: AsyncIterable<Uint8Array>,
    /** Goes away without a word. */
    readonly abort: () => void,
  ) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  get sessionId(): string | undefined {
    return this.headers['mcp-session-id']
  }

  async text(): Promise<string> {
    while (await this.#more()) {}
    const text = this.#pending
    this.#pending = ''
    return text
  }

  /** The next block, comments and priming included; undefined: the answer has ended. */
  async block(): Promise<SseEvent | undefined> {
    for (;;) {
      const end = this.#pending.indexOf('\n\n')
      if (end >= 0) {
        const text = this.#pending.slice(0, end)
        this.#pending = this.#pending.slice(end + 2)
        return blockOf(text)
      }
      if (!(await this.#more())) {
        if (this.#pending !== '') throw new Error(`cut off in the middle of an event: ${this.#pending.slice(0, 100)}`)
        return undefined
      }
    }
  }

  /** The next event that carries a message; undefined: the answer has ended. */
  async event(): Promise<SseEvent | undefined> {
    for (;;) {
      const block = await this.block()
      if (!block || block.message !== undefined) return block
    }
  }

  /** The events that carry a message, until the answer ends. */
  async events(): Promise<SseEvent[]> {
    const all: SseEvent[] = []
    for (let event = await this.event(); event; event = await this.event()) all.push(event)
    return all
  }

  async #more(): Promise<boolean> {
    const { value, done } = await within(this.#chunks.next(), 'more of an answer, or its end', PATIENCE)
    if (done) return false
    this.#pending += this.#decoder.decode(value, { stream: true })
    return true
  }
}

function blockOf(text: string): SseEvent {
  const event: SseEvent = {}
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    const field = line.slice(0, colon)
    const value = line.slice(colon + 1).trimStart()
    if (field === '') event.comment = value
    else if (field === 'retry') event.retry = Number(value)
    else if (field === 'id' || field === 'event' || field === 'data') event[field] = value
    else throw new Error(`not SSE: ${line}`)
  }
  if (event.data) event.message = JSON.parse(event.data)
  return event
}
