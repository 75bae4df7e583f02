/** A client of a simulated cluster, for tests that say step by step what happens. */
import { expect } from 'vitest'
import type { SseBlock } from '../harness/sse.js'
import { CLIENT_INFO, LATEST } from '../harness/wire-client.js'
import type { Connection, HttpCall, SimulatedNode, World } from '../model/world.js'

/** One HTTP request and what came of it so far. */
export class Visit {
  status: number | undefined
  headers: Headers | undefined
  body = ''
  readonly blocks: SseBlock[] = []
  lastEventId: string | undefined
  ended = false
  broken = false
  connection!: Connection

  /** Without what carries no message. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into messages of any shape
  get messages(): any[] {
    return this.blocks.filter(({ message }) => message !== undefined).map(({ message }) => message)
  }

  get over(): boolean {
    return this.ended || this.broken
  }

  drop(): void {
    this.connection.drop()
  }
}

export interface DriverOptions {
  principal?: string
  version?: string
}

export class Driver {
  session: string | undefined
  readonly #http: Pick<HttpCall, 'principal' | 'version'>

  constructor(
    readonly world: World,
    { principal, version = LATEST }: DriverOptions = {},
  ) {
    this.#http = { principal, version }
  }

  visit(node: SimulatedNode, http: HttpCall): Visit {
    const visit = new Visit()
    visit.connection = this.world.request(
      node,
      { session: this.session, ...this.#http, ...http },
      {
        head: (status, headers) => Object.assign(visit, { status, headers }),
        text: (text) => {
          visit.body += text
        },
        block: (block) => {
          visit.blocks.push(block)
          visit.lastEventId = block.id ?? visit.lastEventId
        },
        end: () => {
          visit.ended = true
        },
        broken: () => {
          visit.broken = true
        },
      },
    )
    return visit
  }

  post(node: SimulatedNode, body: unknown): Visit {
    return this.visit(node, { method: 'POST', body })
  }

  request(node: SimulatedNode, id: number, method: string, params?: Record<string, unknown>): Visit {
    return this.post(node, { jsonrpc: '2.0', id, method, ...(params && { params }) })
  }

  resume(node: SimulatedNode, lastEventId: string | undefined): Visit {
    expect(lastEventId, 'a cursor to go on from').toBeDefined()
    return this.visit(node, { method: 'GET', lastEventId })
  }

  async open(node: SimulatedNode): Promise<this> {
    const params = {
      protocolVersion: this.#http.version,
      capabilities: {},
      clientInfo: CLIENT_INFO,
    }
    const init = this.request(node, 0, 'initialize', params)
    await this.until(() => init.ended)
    expect(init.status).toBe(200)
    this.session = init.headers?.get('mcp-session-id') ?? undefined
    const initialized = this.post(node, { jsonrpc: '2.0', method: 'notifications/initialized' })
    await this.until(() => initialized.ended)
    expect(initialized.status).toBe(202)
    return this
  }

  /** Waits, at most `ms` of simulated time. */
  async until(is: () => boolean, ms = 10_000, what = String(is)): Promise<void> {
    if (!(await this.world.clock.until(is, ms, 10))) expect.fail(`not within ${ms} ms: ${what}`)
  }
}
