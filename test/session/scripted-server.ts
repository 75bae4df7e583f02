/** A server instance of a few lines, that answers when and how a test says, and remembers all it was told. */

import type { FactoryContext, MessageExtra, ServerFactory, ServerInstance, Transport } from '../../src/index.js'
import type { JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse } from '../../src/wire/jsonrpc.js'
import { isRequest, isResponse } from '../../src/wire/jsonrpc.js'

type Result = Record<string, unknown>

/** What to do at a message; a request is answered with what is returned, or with an error if it throws. */
export type Script = Record<
  string,
  (message: JSONRPCRequest, server: ScriptedServer, extra: MessageExtra | undefined) => unknown
>

/** No answer now: the script sends it, or never. */
export const UNANSWERED: Promise<never> = new Promise(() => {})

export class ScriptedServer implements ServerInstance {
  /** Messages from the client, in order. */
  readonly received: { message: JSONRPCMessage; extra: MessageExtra | undefined }[] = []
  /** What came after the instance was closed. */
  readonly afterClose: JSONRPCMessage[] = []
  transport!: Transport
  closed = false
  #waiting: { method: string; resolve: (message: JSONRPCRequest) => void }[] = []

  constructor(
    readonly context: FactoryContext,
    private readonly script: Script,
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

  /** Methods received, in order. */
  get methods(): string[] {
    return this.received.flatMap(({ message }) => ('method' in message ? [message.method] : []))
  }

  /** Requests and notifications with a method, as they came. */
  all(method: string): JSONRPCRequest[] {
    return this.received.flatMap(({ message }) =>
      'method' in message && message.method === method ? [message as JSONRPCRequest] : [],
    )
  }

  /** Answers of the client to what this server asked. */
  get answers(): JSONRPCResponse[] {
    return this.received.map(({ message }) => message).filter(isResponse)
  }

  /** Resolves at the first message with a method. */
  async got(method: string): Promise<JSONRPCRequest> {
    return this.all(method)[0] ?? this.next(method)
  }

  /** Resolves at the next message with a method. */
  next(method: string): Promise<JSONRPCRequest> {
    return new Promise((resolve) => this.#waiting.push({ method, resolve }))
  }

  notify(method: string, params?: Result, relatedRequestId?: string | number): Promise<void> {
    return this.transport.send(
      { jsonrpc: '2.0', method, ...(params && { params }) } satisfies JSONRPCNotification,
      relatedRequestId === undefined ? undefined : { relatedRequestId },
    )
  }

  ask(id: number | string, method: string, params?: Result, relatedRequestId?: string | number): Promise<void> {
    return this.transport.send(
      { jsonrpc: '2.0', id, method, ...(params && { params }) },
      relatedRequestId === undefined ? undefined : { relatedRequestId },
    )
  }

  respond(request: JSONRPCRequest, result: Result = {}): Promise<void> {
    return this.transport.send({ jsonrpc: '2.0', id: request.id, result })
  }

  #receive(message: JSONRPCMessage, extra: MessageExtra | undefined): void {
    if (this.closed) this.afterClose.push(message)
    this.received.push({ message, extra })
    if (!('method' in message)) return
    for (const waiting of this.#waiting.filter(({ method }) => method === message.method)) {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1)
      waiting.resolve(message as JSONRPCRequest)
    }
    const act = this.script[message.method]
    if (!isRequest(message)) {
      act?.(message as JSONRPCRequest, this, extra)
      return
    }
    const send = (answer: JSONRPCMessage) => void this.transport.send(answer).catch(() => {})
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
  /** Instances built to restore a session. */
  readonly restored: ScriptedServer[]
}

/** A factory of scripted servers; `before` runs first, and may wait or throw. */
export function scripted(script: Script = {}, before?: (context: FactoryContext) => unknown): ScriptedFactory {
  const servers: ScriptedServer[] = []
  const build = (context: FactoryContext) => {
    const server = new ScriptedServer(context, script)
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
    restored: { get: () => servers.filter(({ context }) => context.restored) },
  })
  return factory as ScriptedFactory satisfies ServerFactory
}
