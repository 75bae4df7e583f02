/** A load balancer that knows nothing of sessions: each request goes to the next node, whatever came before. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream'

/** Where requests may go. */
export interface Target {
  readonly name: string
  /** Base URL; undefined: nothing is there. */
  readonly url: string | undefined
}

/**
 * Retries nothing. A node that takes no connection is passed over for the next one, which is no retry: not a byte of the
 * request has left yet, so nobody can have acted on it (nginx and others do the same). Once a node has the connection,
 * whatever happens is told to the client: 502, or a broken stream if the answer had begun.
 */
export class RoundRobinProxy {
  /** Answers of each node. */
  readonly answers = new Map<string, number>()
  readonly #server = createServer((req, res) => this.#pass(req, res, this.#turn++, this.targets.length))
  #turn = 0

  constructor(private readonly targets: readonly Target[]) {}

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  #pass(req: IncomingMessage, res: ServerResponse, turn: number, left: number): void {
    if (left === 0) {
      res.writeHead(502).end()
      return
    }
    const next = () => this.#pass(req, res, turn + 1, left - 1)
    const { name, url } = this.targets[turn % this.targets.length] as Target
    if (url === undefined) {
      next()
      return
    }
    const { method, headers } = req
    // A connection for each request: one that is kept may be dead already, and that shows only when something was sent.
    const upstream = request(new URL(req.url ?? '/', url), { method, headers, agent: false })
    let connected = false
    upstream.once('socket', (socket) => {
      socket.setNoDelay(true).once('connect', () => {
        connected = true
        req.pipe(upstream)
      })
    })
    upstream.once('error', () => {
      if (res.headersSent) res.destroy()
      else if (connected) res.writeHead(502).end()
      else next()
    })
    upstream.once('response', (answer) => {
      this.answers.set(name, (this.answers.get(name) ?? 0) + 1)
      res.writeHead(answer.statusCode ?? 502, answer.headers)
      res.flushHeaders()
      // Either side that goes takes the other with it, so that a client sees when its answer is not whole.
      pipeline(answer, res, () => {})
    })
    res.once('close', () => upstream.destroy())
  }
}
