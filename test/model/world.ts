/** A cluster in one process: nodes that come and go, and the connections that clients have to them. */
import type { FactoryContext, Retention, ServerFactory } from '../../src/index.js'
import { createSessionHandler, type SessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import { randomFrom } from '../harness/random.js'
import { type SseBlock, SseParser } from '../harness/sse.js'
import { Owner, VirtualClock } from './clock.js'
import { Network } from './network.js'
import { Deeds, ModelServer } from './server.js'

export type NodeState = 'up' | 'paused' | 'draining' | 'down'

export interface SimulatedNode {
  readonly name: string
  owner: Owner
  handler: SessionHandler
  state: NodeState
  connections: Set<Connection>
}

/** Nodes that did what they do before they end. */
const leavers = new WeakSet<Owner>()
export const tookLeave = (owner: Owner): boolean => leavers.has(owner)

/** What a client notices of one HTTP request. */
export interface Hearer {
  head?(status: number, headers: Headers): void
  /** The whole body of an answer that is no stream. */
  text?(body: string): void
  /** A block of an SSE stream. */
  block?(block: SseBlock): void
  /** The answer was complete. */
  end?(): void
  /** The connection broke. */
  broken?(): void
}

export interface HttpCall {
  method: 'POST' | 'GET' | 'DELETE'
  body?: unknown
  session?: string | undefined
  principal?: string | undefined
  lastEventId?: string | undefined
  version?: string
}

export class Connection {
  /** Whether the client still looks at it. */
  open = true
  #lost = false
  #nextAt = 0
  #cancel: (() => void) | undefined
  readonly #parser = new SseParser()

  constructor(
    private readonly world: World,
    readonly node: SimulatedNode,
    private readonly hearer: Hearer,
  ) {}

  send(call: HttpCall) {
    const { clock, network } = this.world
    const { owner, handler } = this.node
    if (this.node.state === 'down') return this.reset()
    this.node.connections.add(this)
    clock.after(network.latency(), owner, () => {
      const headers: Record<string, string> = {
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
      }
      if (call.session !== undefined) headers['mcp-session-id'] = call.session
      if (call.lastEventId !== undefined) headers['last-event-id'] = call.lastEventId
      if (call.version !== undefined) headers['mcp-protocol-version'] = call.version
      const request = new Request('http://localhost/mcp', { method: call.method, headers })
      const authInfo = call.principal && { authInfo: { token: 't', clientId: call.principal, scopes: [] } }
      const parsedBody = call.body === undefined ? {} : { parsedBody: JSON.parse(JSON.stringify(call.body)) }
      void handler.fetch(request, { ...authInfo, ...parsedBody }).then((response) => this.#answered(response))
    })
  }

  /** The client goes away; what is on its way to it is lost. The node learns of it a little later. */
  drop(): void {
    if (!this.open) return
    this.open = false
    this.world.clock.after(this.world.network.latency(), this.node.owner, () => this.#cancel?.())
  }

  /** The node went away. */
  reset(): void {
    this.#lost = true
    this.world.clock.after(this.world.network.latency(), undefined, () => this.#break())
  }

  async #answered(response: Response): Promise<void> {
    this.#tell(() => this.hearer.head?.(response.status, response.headers))
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
      const text = await response.text()
      this.#tell(() => this.hearer.text?.(text))
    } else {
      const reader = response.body!.getReader()
      const decoder = new TextDecoder()
      this.#cancel = () => {
        // one that the node has broken off by then cannot be cancelled
        reader.cancel().catch(() => {})
      }
      if (!this.open) this.#cancel()
      try {
        for (;;) {
          const { done, value } = await reader.read()
          if (done) break
          const text = decoder.decode(value, { stream: true })
          this.#tell(() => this.#hear(text))
        }
      } catch {
        this.#tell(() => this.#break())
        this.node.connections.delete(this)
        return
      }
    }
    this.#tell(() => {
      this.open = false
      this.hearer.end?.()
    })
    this.node.connections.delete(this)
  }

  #hear(text: string): void {
    for (const block of this.#parser.push(text)) {
      if (this.open) this.hearer.block?.(block)
    }
  }

  #break(): void {
    if (!this.open) return
    this.open = false
    this.hearer.broken?.()
  }

  /** Comes to the client in order, if it is still there. */
  #tell(what: () => void): void {
    const { clock, network } = this.world
    this.#nextAt = Math.max(this.#nextAt, clock.now + network.latency())
    clock.after(this.#nextAt - clock.now, undefined, () => {
      // what a killed process had in its socket's buffer is lost
      if (this.open && !this.#lost) what()
    })
  }
}

export interface WorldOptions {
  seed: number
  nodes?: number
  handler?: SessionHandlerOptions
  retention?: Retention
  /** Default: servers of {@link ModelServer}. */
  factory?: (node: string) => ServerFactory
}

export class World {
  readonly clock = new VirtualClock()
  readonly network: Network
  readonly deeds = new Deeds()
  readonly nodes: SimulatedNode[]
  /** When a node last went away, or came back. */
  troubledAt = Number.NEGATIVE_INFINITY
  #names = 0

  constructor(private readonly options: WorldOptions) {
    this.clock.install(randomFrom(options.seed + 2))
    this.network = new Network(this.clock, randomFrom(options.seed + 1), options.retention)
    this.nodes = Array.from({ length: options.nodes ?? 3 }, () => this.#node())
  }

  /** Ends everything; what has not been said until now is never said. */
  end(): void {
    for (const { owner } of this.nodes) this.clock.kill(owner)
    this.clock.uninstall()
  }

  request(node: SimulatedNode, call: HttpCall, hearer: Hearer): Connection {
    const connection = new Connection(this, node, hearer)
    connection.send(call)
    return connection
  }

  /** Without a goodbye: timers, sockets and subscriptions are gone, the heartbeat is not withdrawn. */
  kill(node: SimulatedNode): void {
    if (node.state === 'down') return
    this.clock.kill(node.owner)
    this.network.forget(node.owner)
    this.troubledAt = this.clock.now
    node.state = 'down'
    for (const connection of node.connections) connection.reset()
    node.connections.clear()
  }

  restart(node: SimulatedNode): void {
    if (node.state !== 'down') return
    // the new node must have looked at heartbeats for a while before it takes anybody for dead
    this.troubledAt = this.clock.now
    Object.assign(node, this.#start(node.name), { state: 'up', connections: new Set() })
  }

  pause(node: SimulatedNode): void {
    if (node.state !== 'up') return
    node.state = 'paused'
    this.clock.pause(node.owner)
  }

  resume(node: SimulatedNode): void {
    if (node.state !== 'paused') return
    this.troubledAt = this.clock.now
    node.state = 'up'
    this.clock.resume(node.owner)
  }

  /** SIGTERM: hands over, closes, ends. */
  drain(node: SimulatedNode, timeout: number): void {
    if (node.state !== 'up') return
    this.troubledAt = this.clock.now
    node.state = 'draining'
    const { owner, handler } = node
    this.clock.after(0, owner, () => {
      const gone = () => {
        leavers.add(owner)
        if (node.owner === owner) this.kill(node)
      }
      void handler.drain({ timeout }).then(
        () => handler.close().then(() => setTimeout(gone, 100), gone),
        () => handler.close().then(gone, gone),
      )
    })
  }

  #node(): SimulatedNode {
    const name = 'ABCDE'[this.#names++] as string
    return { name, ...this.#start(name), state: 'up', connections: new Set() }
  }

  #start(name: string): Pick<SimulatedNode, 'owner' | 'handler'> {
    const owner = new Owner(name)
    const factory =
      this.options.factory?.(name) ?? ((context: FactoryContext) => new ModelServer(context, owner, this.deeds))
    const handler = this.clock.as(owner, () =>
      createSessionHandler(factory, {
        // what goes wrong here is meant to
        onerror: () => {},
        ...this.options.handler,
        backend: this.network.backendOf(owner),
      }),
    )
    // health checks
    this.clock.as(owner, () => {
      void handler.status()
      setInterval(() => void handler.status(), 2000)
    })
    return { owner, handler }
  }
}
