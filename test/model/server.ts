/** The servers of the simulated cluster: tools of every kind, and a record of what was really done. */
import type {
  FactoryContext,
  JSONRPCMessage,
  JSONRPCNotification,
  JSONRPCRequest,
  RequestId,
  ServerInstance,
  Transport,
} from '../../src/index.js'
import { isRequest, isResponse } from '../harness/messages.js'
import type { Owner } from './clock.js'

/** `safe` ones are annotated so that they may be run again. */
export const TOOLS = {
  echo: { safe: true },
  write: { safe: false },
  slow: { safe: false },
  slowRead: { safe: true },
  ask: { safe: false },
  askRead: { safe: true },
  tell: { safe: false },
  state: { safe: true },
} as const

export type Tool = keyof typeof TOOLS

export interface Started {
  session: string
  call: RequestId
  tool: Tool
  owner: Owner
  ended: boolean
  aborted: boolean
}

/** What an observer of all servers knows. */
export class Deeds {
  readonly started: Started[] = []
  /** Nonces of the client's answers that reached the instance that asked. */
  readonly answers = new Set<unknown>()
  readonly instances: ModelServer[] = []

  running(session: string): Started[] {
    return this.started.filter((one) => one.session === session && !one.ended && !one.owner.dead)
  }
}

export class ModelServer implements ServerInstance {
  closed = false
  level: unknown
  readonly subscriptions = new Set<unknown>()
  initialized = false
  #transport!: Transport
  #asked = new Map<RequestId, { call: RequestId; resolve: (answer: unknown) => void }>()
  #ids = 0
  #running = new Map<RequestId, Started>()

  constructor(
    readonly context: FactoryContext,
    readonly owner: Owner,
    private readonly deeds: Deeds,
  ) {
    deeds.instances.push(this)
  }

  async connect(transport: Transport): Promise<void> {
    this.#transport = transport
    transport.onmessage = (message) => this.#receive(message)
    transport.onclose = () => {
      this.closed = true
      for (const one of this.#running.values()) one.aborted = one.ended = true
      this.#running.clear()
      this.#asked.clear()
    }
    await transport.start()
  }

  async close(): Promise<void> {
    await this.#transport.close()
  }

  #receive(message: JSONRPCMessage): void {
    if (isResponse(message)) {
      if (message.id !== undefined)
        this.#asked.get(message.id)?.resolve('result' in message ? message.result : undefined)
    } else if (isRequest(message)) this.#request(message)
    else this.#notification(message)
  }

  #notification({ method, params }: JSONRPCNotification): void {
    if (method === 'notifications/initialized') this.initialized = true
    if (method !== 'notifications/cancelled') return
    const one = this.#running.get(params?.requestId as RequestId)
    if (!one) return
    one.aborted = one.ended = true
    this.#running.delete(one.call)
    for (const [id, { call }] of this.#asked) {
      if (call !== one.call) continue
      this.#asked.delete(id)
      this.#send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } }, call)
    }
  }

  #request(request: JSONRPCRequest) {
    const { id, method, params } = request
    const respond = (result: Record<string, unknown>) => this.#send({ jsonrpc: '2.0', id, result })
    switch (method) {
      case 'initialize':
        return respond({
          protocolVersion: params?.protocolVersion,
          capabilities: { tools: {}, logging: {}, resources: { subscribe: true } },
          serverInfo: { name: 'model', version: '1' },
        })
      case 'tools/list': {
        const all = Object.entries(TOOLS).map(([name, { safe }]) => ({ name, annotations: { readOnlyHint: safe } }))
        // in pages, as long lists come
        const from = Number(params?.cursor ?? 0)
        const nextCursor = from + 3 < all.length ? String(from + 3) : undefined
        return respond({ tools: all.slice(from, from + 3), ...(nextCursor && { nextCursor }) })
      }
      case 'logging/setLevel':
        this.level = params?.level
        return respond({})
      case 'resources/subscribe':
        this.subscriptions.add(params?.uri)
        return respond({})
      case 'resources/unsubscribe':
        this.subscriptions.delete(params?.uri)
        return respond({})
      case 'tools/call':
        void this.#call(request)
        return
      default:
        respond({})
    }
  }

  async #call({ id, params }: JSONRPCRequest): Promise<void> {
    const tool = params?.name as Tool
    const args = (params?.arguments ?? {}) as { steps?: number; every?: number; nonce?: string }
    const session = this.#transport.sessionId as string
    const one: Started = { session, call: id, tool, owner: this.owner, ended: false, aborted: false }
    this.deeds.started.push(one)
    this.#running.set(id, one)
    const result: Record<string, unknown> = { session, principal: this.context.session.principal, call: id }
    switch (tool) {
      case 'slow':
      case 'slowRead':
        for (let step = 1; step <= (args.steps ?? 1); step++) {
          await new Promise((resolve) => setTimeout(resolve, args.every))
          if (one.aborted) return
          const params = { progressToken: id, progress: step, session }
          this.#send({ jsonrpc: '2.0', method: 'notifications/progress', params }, id)
        }
        break
      case 'ask':
      case 'askRead':
        result.answer = await this.#ask(id, session)
        break
      case 'tell': {
        const told = { level: 'info', data: { nonce: args.nonce, session } }
        this.#send({ jsonrpc: '2.0', method: 'notifications/message', params: told })
        break
      }
      case 'state':
        Object.assign(result, {
          level: this.level,
          subscriptions: [...this.subscriptions],
          initialized: this.initialized,
        })
        break
      default:
    }
    if (one.aborted) return
    one.ended = true
    this.#running.delete(id)
    this.#send({ jsonrpc: '2.0', id, result })
  }

  async #ask(call: RequestId, session: string): Promise<unknown> {
    const id = this.#ids++
    const answer = new Promise<unknown>((resolve) => this.#asked.set(id, { call, resolve }))
    this.#send({ jsonrpc: '2.0', id, method: 'elicitation/create', params: { message: 'which?', call, session } }, call)
    const result = (await answer) as { content?: { nonce?: unknown } } | undefined
    this.#asked.delete(id)
    this.deeds.answers.add(result?.content?.nonce)
    return result?.content?.nonce
  }

  #send(message: JSONRPCMessage, relatedRequestId?: RequestId): void {
    this.#transport.send(message, relatedRequestId === undefined ? undefined : { relatedRequestId }).catch(() => {})
  }
}
