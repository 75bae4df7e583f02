/**
 * A load balancer that knows nothing of sessions: each request goes to the next target, whatever came before. Only a request
 * whose header {@link NODE_HEADER} names a target by its index goes there, so that a test can say which way it takes.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { finished } from 'node:stream/promises'

export const NODE_HEADER = 'x-test-node'

export interface ProxyOptions {
  /** Requests served at a time; one more is answered 503. Default 1,000. */
  maxRequests?: number
  /** How long a target may take to begin its answer, in ms; then 504. Default 30,000. */
  answerTimeout?: number
}

/** One request, and where it went. */
export interface Passage {
  method: string
  target: string
  /** Whether its answer has begun, and is a stream. */
  isStream: boolean
}

export class TestProxy {
  /** Where requests go, in turn: base URLs. May be changed at any time. */
  targets: string[]
  /** What has passed so far. */
  readonly passages: Passage[] = []
  #server: Server
  #running = new Map<ServerResponse, Passage>()
  #turn = 0
  #options: Required<ProxyOptions>

  constructor(targets: readonly string[], options: ProxyOptions) {
    this.targets = [...targets]
    this.#options = { maxRequests: 1_000, answerTimeout: 30_000, ...options }
    this.#server = createServer((req, res) => void this.#pass(req, res))
  }

  /** Its own base URL, without a path. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject).listen(0, '127.0.0.1', resolve)
    })
  }

  /** Breaks what is running, on both sides and without a word: all of it, or what `which` says. Returns how many. */
  cut(which: (passage: Passage) => boolean = () => true): number {
    const cut = [...this.#running].filter(([, passage]) => which(passage))
    for (const [res] of cut) res.destroy()
    return cut.length
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.cut()
    this.#server.closeAllConnections()
    await closed
  }

  async #pass(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const named = req.headers[NODE_HEADER]
    const target = this.targets[named === undefined ? this.#turn++ % this.targets.length : Number(named)]
    if (target === undefined || this.#running.size >= this.#options.maxRequests) {
      res.writeHead(503).end()
      return
    }
    const passage = { method: req.method ?? 'GET', target, isStream: false }
    this.passages.push(passage)
    this.#running.set(res, passage)
    const { method, headers, url } = req
    // A connection for each request: one kept too long would make an error that no server made.
    const upstream = request(new URL(url ?? '/', target), { method, headers, agent: false })
    upstream.setTimeout(this.#options.answerTimeout, () => {
      if (!res.headersSent) res.writeHead(504).end()
      upstream.destroy()
    })
    // Either side that goes takes the other with it; nothing is tried twice.
    res.once('close', () => {
      this.#running.delete(res)
      upstream.destroy()
    })
    upstream.once('error', () => {
      if (res.headersSent) res.destroy()
      else res.writeHead(502).end()
    })
    upstream.once('response', (answer) => {
      upstream.setTimeout(0)
      passage.isStream = answer.headers['content-type'] === 'text/event-stream'
      res.writeHead(answer.statusCode ?? 502, answer.headers)
      res.flushHeaders()
      answer.pipe(res)
      // A target that dies in the middle of its answer: the client must see that it is not whole.
      finished(answer).catch(() => res.destroy())
    })
    // Without Nagle's algorithm small events pass at once.
    upstream.once('socket', (socket: Socket) => socket.setNoDelay(true))
    req.pipe(upstream)
  }
}

/** A running proxy. Whoever starts one closes it. */
export async function startProxy(targets: readonly string[], options: ProxyOptions = {}): Promise<TestProxy> {
  const proxy = new TestProxy(
    targets.map((target) => new URL(target).origin),
    options,
  )
  await proxy.listen()
  return proxy
}
