/**
 * A load balancer as they are: round robin over the nodes whose `/healthz` answers 200, nothing tried twice. It can cut a
 * connection, also in the middle of an event.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { finished } from 'node:stream/promises'
import { until } from '../harness/within.js'

/** A node goes when it has not answered so many health checks in a row; one that says that it is not ready goes at once. */
const MISSES = 2

export interface BalancerOptions {
  /** Between two looks at a node's health, in ms. Default 100; 0: none, and `rotation` is what it is set to. */
  interval?: number
  /** How long a node may take to say how it does, in ms. Default 400. */
  patience?: number
  /** How long a node may take to begin its answer, in ms; then 504. Default 4,000. */
  answerTimeout?: number
}

interface Passage {
  req: IncomingMessage
  res: ServerResponse
  target: string
  /** Something of the answer's body has passed. */
  begun: boolean
  /** Goes with half of the next chunk. */
  doomed: boolean
}

export class Balancer {
  /** Nodes to which requests go. */
  rotation: string[]
  /** Whether a node that does not answer its health checks loses its connections, too. */
  shutdownSessions = false
  #passages = new Set<Passage>()
  #server: Server
  #turn = 0
  #checks: NodeJS.Timeout[] = []
  #options: Required<BalancerOptions>

  private constructor(
    private readonly nodes: readonly string[],
    options: BalancerOptions,
  ) {
    this.rotation = [...nodes]
    this.#options = { interval: 100, patience: 400, answerTimeout: 4000, ...options }
    this.#server = createServer((req, res) => this.#pass(req, res))
    if (this.#options.interval > 0) for (const node of nodes) this.#watch(node)
  }

  /** Whoever starts one closes it. */
  static async start(nodes: readonly string[], options: BalancerOptions = {}): Promise<Balancer> {
    const balancer = new Balancer(nodes, options)
    await new Promise<void>((resolve) => balancer.#server.listen(0, '127.0.0.1', resolve))
    return balancer
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/mcp`
  }

  /** Resolves when requests go to the node. */
  async takes(node: string): Promise<void> {
    await until(() => this.rotation.includes(node), 'a node in rotation')
  }

  /**
   * The connections that can be cut: answers that go on; of resumed ones, those that have given out an event id. (An SDK
   * client whose resumed connection is cut before forgets which stream it was, and opens a second standalone stream instead.)
   */
  get streams(): number {
    return this.#open().length
  }

  /** Cuts the nth of the open streams on both sides without a word: at once, or in the middle of its next event. */
  cut(nth: number, midEvent: boolean): void {
    const passage = this.#open()[nth]
    if (!passage) return
    if (midEvent) passage.doomed = true
    else passage.res.destroy()
  }

  async close(): Promise<void> {
    for (const check of this.#checks) clearInterval(check)
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const { res } of this.#passages) res.destroy()
    this.#server.closeAllConnections()
    await closed
  }

  #open(): Passage[] {
    return [...this.#passages].filter(
      ({ req, res, begun }) =>
        res.headersSent && !res.writableEnded && !res.destroyed && (begun || req.method === 'POST'),
    )
  }

  #watch(node: string): void {
    const { interval, patience } = this.#options
    let asking = false
    let misses = 0
    const check = async () => {
      if (asking) return
      asking = true
      let answered = true
      const healthy = await fetch(new URL('/healthz', node), { signal: AbortSignal.timeout(patience) }).then(
        async (response) => {
          await response.body?.cancel()
          return response.status === 200
        },
        () => {
          answered = false
          return false
        },
      )
      asking = false
      misses = answered ? 0 : misses + 1
      // a node that is only slow once stays
      if (misses > 0 && misses < MISSES) return
      this.rotation = this.nodes.filter((each) => (each === node ? healthy : this.rotation.includes(each)))
      if (answered || !this.shutdownSessions) return
      for (const { res, target } of [...this.#passages]) if (target === node) res.destroy()
    }
    this.#checks.push(setInterval(check, interval))
  }

  #pass(req: IncomingMessage, res: ServerResponse): void {
    // with no node in rotation they are all tried in turn, as Envoy and AWS do: the health check may be what is wrong
    const targets = this.rotation.length > 0 ? this.rotation : this.nodes
    const target = targets[this.#turn++ % targets.length] ?? ''
    const passage: Passage = { req, res, target, begun: false, doomed: false }
    this.#passages.add(passage)
    const { method, headers, url } = req
    const upstream = request(new URL(url ?? '/', target), { method, headers, agent: false })
    const patience = setTimeout(() => {
      if (!res.headersSent) res.writeHead(504).end()
      upstream.destroy()
    }, this.#options.answerTimeout)
    // Either side that goes takes the other with it.
    res.once('close', () => {
      clearTimeout(patience)
      this.#passages.delete(passage)
      upstream.destroy()
    })
    upstream.once('error', () => {
      if (res.headersSent) res.destroy()
      else res.writeHead(502).end()
    })
    upstream.once('response', (answer) => {
      clearTimeout(patience)
      res.writeHead(answer.statusCode ?? 502, answer.headers)
      res.flushHeaders()
      answer.on('data', (chunk: Buffer) => {
        passage.begun = true
        res.write(passage.doomed ? chunk.subarray(0, chunk.length >> 1) : chunk, () => {
          if (passage.doomed) res.destroy()
        })
      })
      finished(answer).then(
        () => (passage.doomed ? res.destroy() : res.end()),
        () => res.destroy(),
      )
    })
    upstream.once('socket', (socket) => socket.setNoDelay(true))
    req.pipe(upstream)
  }
}
