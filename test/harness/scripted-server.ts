/** A server instance of a few lines, that answers when and how a test says, and remembers all it was told. */
import type {
  FactoryContext,
  JSONRPCMessage,
  JSONRPCRequest,
  JSONRPCResponse,
  MessageExtra,
  RequestId,
  ServerFactory,
  ServerInstance,
  Transport,
} from '../../src/index.js'
import { isRequest, isResponse } from './messages.js'
import { Recorder } from './recorder.js'

type Result = Record<string, unknown>

/** What to do at a message; a request is answered with what is returned, or with an error if it throws. */
export type Script = Record<
  string,
  (message: JSONRPCRequest, server: ScriptedServer, extra: MessageExtra | undefined) => unknown
>

/** No answer now: the test sends it, or never. */
export const UNANSWERED: Promise<never> = new Promise(() => {})

export interface Received {
  server: ScriptedServer
  message: JSONRPCMessage
  extra: MessageExtra | undefined
}

/** Answers `initialize` as servers do, and what its script does not name with an empty result. */
export class ScriptedServer implements ServerInstance {
  /** Messages from the client, in order. */
  readonly received = new Recorder<Received>()
  /** What came after the instance was closed. */
  readonly afterClose: JSONRPCMessage[] = []
  transport!: Transport
  closed = false

  constructor(
    private readonly script: Script = {},
    /** What the factory was told; there is none where no factory was. */
    readonly context: FactoryContext = undefined as unknown as FactoryContext,
    private readonly onreceived: (received: Received) => void = () => {},
  ) {}

  async connect(transport: Transport): Promise<void> {
    this.transport = transport
    transport.onmessage = (message, extra) => this.#receive(message, extra)
    transport.onclose = () => {
      this.closed = true
    }
    await transport.start()
  }

  async close(): Promise<void> {
    this.closed = true
    await this.transport?.close()
  }

  get messages(): JSONRPCMessage[] {
    return this.received.all.map(({ message }) => message)
  }

  /** Methods received, in order. */
  get methods(): string[] {
    return this.messages.flatMap((message) => ('method' in message ? [message.method] : []))
  }

  /** Requests and notifications with a method, as they came. */
  all(method: string): JSONRPCRequest[] {
    return this.messages.flatMap((message) =>
      'method' in message && message.method === method ? [message as JSONRPCRequest] : [],
    )
  }

  /** Answers of the client to what this server asked. */
  get answers(): JSONRPCResponse[] {
    return this.messages.filter(isResponse)
  }

  /** The first message with a method, once it is there. */
  async got(method: string): Promise<Received & { message: JSONRPCRequest }> {
    const isIt = ({ message }: Received) => 'method' in message && message.method === method
    return (await this.received.first(isIt, `${method} at the server`)) as Received & { message: JSONRPCRequest }
  }

  /** The client's answer to what this server asked, once it is there. */
  answer(id: RequestId): Promise<Received> {
    const isIt = ({ message }: Received) => isResponse(message) && message.id === id
    return this.received.first(isIt, `the client's answer to ${id}`)
  }

  notify(method: string, params?: Result, relatedRequestId?: RequestId): Promise<void> {
    return this.#send({ jsonrpc: '2.0', method, ...(params && { params }) }, relatedRequestId)
  }

  /** A log message; every revision has them, and no capability of the client's is needed. */
  say(data: unknown, relatedRequestId?: RequestId): Promise<void> {
    return this.notify('notifications/message', { level: 'info', data }, relatedRequestId)
  }

  ask(id: RequestId, method: string, params?: Result, relatedRequestId?: RequestId): Promise<void> {
    return this.#send({ jsonrpc: '2.0', id, method, ...(params && { params }) }, relatedRequestId)
  }

  respond({ id }: Pick<JSONRPCRequest, 'id'>, result: Result = {}): Promise<void> {
    return this.#send({ jsonrpc: '2.0', id, result })
  }

  #send(message: JSONRPCMessage, relatedRequestId?: RequestId): Promise<void> {
    return this.transport.send(message, relatedRequestId === undefined ? undefined : { relatedRequestId })
  }

  #receive(message: JSONRPCMessage, extra: MessageExtra | undefined): void {
    if (this.closed) this.afterClose.push(message)
    const received = { server: this, message, extra }
    this.received.add(received)
    this.onreceived(received)
    if (!('method' in message)) return
    const act = this.script[message.method]
    if (!isRequest(message)) {
      act?.(message as JSONRPCRequest, this, extra)
      return
    }
    const send = (answer: JSONRPCMessage) => void this.#send(answer).catch(() => {})
    const fail = (error: unknown) =>
      send({ jsonrpc: '2.0', id: message.id, error: { code: -32603, message: String(error) } })
    try {
      const result = act ? act(message, this, extra) : message.method === 'initialize' ? handshake(message) : {}
      if (result instanceof Promise) {
        result.then((value: Result) => send({ jsonrpc: '2.0', id: message.id, result: value }), fail)
      } else send({ jsonrpc: '2.0', id: message.id, result: (result ?? {}) as Result })
    } catch (error) {
      fail(error)
    }
  }
}

/** What a server answers to `initialize`. */
export function handshake(request: JSONRPCRequest, protocolVersion?: string): Result {
  return {
    protocolVersion: protocolVersion ?? request.params?.protocolVersion,
    capabilities: { tools: {}, logging: {}, resources: { subscribe: true } },
    serverInfo: { name: 'scripted', version: '1' },
  }
}

export interface ScriptedFactory {
  (context: FactoryContext): ScriptedServer | Promise<ScriptedServer>
  /** Instances built so far, oldest first. */
  readonly servers: ScriptedServer[]
  readonly last: ScriptedServer
  /** Messages that came to any of them. */
  readonly received: Recorder<Received>
}

/** A factory of scripted servers; `before` runs first, and may wait or throw. */
export function scripted(script: Script = {}, before?: (context: FactoryContext) => unknown): ScriptedFactory {
  const servers: ScriptedServer[] = []
  const received = new Recorder<Received>()
  const build = (context: FactoryContext) => {
    const server = new ScriptedServer(script, context, (one) => received.add(one))
    servers.push(server)
    return server
  }
  const factory = (context: FactoryContext) => {
    const wait = before?.(context)
    return wait instanceof Promise ? wait.then(() => build(context)) : build(context)
  }
  Object.defineProperties(factory, {
    servers: { value: servers },
    last: { get: () => servers.at(-1) },
    received: { value: received },
  })
  return factory as ScriptedFactory satisfies ServerFactory
}
