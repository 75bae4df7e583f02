/** A server instance that a test moves by hand: it answers when told to, and says what it is told to say. */
import { onTestFinished } from 'vitest'
import {
  createSessionHandler,
  type JSONRPCMessage,
  type JSONRPCRequest,
  type MessageExtra,
  type RequestId,
  type ServerInstance,
  type SessionHandler,
  type SessionHandlerOptions,
  type Transport,
} from '../../src/index.js'
import { Recorder } from '../harness/recorder.js'
import { type Answer, type Door, type DoorName, door, type Sent, type Stream } from './raw.js'

export interface Received {
  message: JSONRPCMessage
  extra: MessageExtra | undefined
}

/** Answers `initialize`, `ping`, `echo` and what bears state at once; requests of any other method wait for the test. */
export class Puppet implements ServerInstance {
  readonly received = new Recorder<Received>()
  transport!: Transport
  closed = false

  constructor(private readonly stage?: Stage) {}

  async connect(transport: Transport): Promise<void> {
    this.transport = transport
    transport.onmessage = (message, extra) => this.#receive(message, extra)
    transport.onclose = () => {
      this.closed = true
    }
    await transport.start()
  }

  async close(): Promise<void> {
    await this.transport.close()
  }

  say(method: string, params: Record<string, unknown> = {}, relatedRequestId?: RequestId): Promise<void> {
    return this.transport.send({ jsonrpc: '2.0', method, params }, { relatedRequestId })
  }

  ask(id: RequestId, method: string, params: Record<string, unknown> = {}, relatedRequestId?: RequestId) {
    return this.transport.send({ jsonrpc: '2.0', id, method, params }, { relatedRequestId })
  }

  #receive(message: JSONRPCMessage, extra: MessageExtra | undefined): void {
    this.received.add({ message, extra })
    if (!('method' in message && 'id' in message)) return
    const { method, id, params } = message as JSONRPCRequest
    const answer = (result: Record<string, unknown>) => void this.transport.send({ jsonrpc: '2.0', id, result })
    switch (method) {
      case 'initialize': {
        const serverInfo = { name: 'puppet', version: '1' }
        if (params?.refuse)
          void this.transport.send({ jsonrpc: '2.0', id, error: { code: -32602, message: 'refused by the puppet' } })
        else answer({ protocolVersion: params?.protocolVersion, capabilities: { logging: {} }, serverInfo })
        return
      }
      case 'ping':
      case 'logging/setLevel':
      case 'resources/subscribe':
      case 'resources/unsubscribe':
        answer({})
        return
      case 'echo':
        answer({ echo: params ?? null })
        return
      default:
        this.stage?.calls.add(new Call(this, message as JSONRPCRequest, extra))
    }
  }
}

/** A request that waits for the test's answer. */
export class Call {
  constructor(
    readonly puppet: Puppet,
    readonly request: JSONRPCRequest,
    readonly extra: MessageExtra | undefined,
  ) {}

  answer(result: Record<string, unknown> = { done: this.request.id }): Promise<void> {
    return this.puppet.transport.send({ jsonrpc: '2.0', id: this.request.id, result })
  }

  say(data: unknown): Promise<void> {
    return this.puppet.say('notifications/message', { level: 'info', data }, this.request.id)
  }

  ask(id: RequestId, method: string): Promise<void> {
    return this.puppet.ask(id, method, {}, this.request.id)
  }
}

/** A handler with puppets for servers, and a door into it. */
export class Stage {
  readonly puppets: Puppet[] = []
  readonly calls = new Recorder<Call>()
  readonly errors: Error[] = []
  handler!: SessionHandler
  door!: Door

  /** The newest instance. */
  get puppet(): Puppet {
    const puppet = this.puppets.at(-1)
    if (!puppet) throw new Error('no server instance was made yet')
    return puppet
  }

  /** The call with a request id, once it has arrived. */
  call(id: RequestId): Promise<Call> {
    return this.calls.first((call) => call.request.id === id, `request ${id} at the server`)
  }

  /** A message, once it has arrived at the newest instance. */
  async received(method: string): Promise<Received> {
    return this.puppet.received.first(({ message }) => 'method' in message && message.method === method, method)
  }

  async initialize(version = '2025-11-25', headers: Sent['headers'] = {}): Promise<Client> {
    const answer = await this.door.send({ headers, body: initialize(version) })
    const id = answer.headers['mcp-session-id']
    if (answer.status !== 200 || id === undefined) throw new Error(`initialize: ${answer.status} ${answer.text}`)
    const client = new Client(this, id, { 'mcp-protocol-version': version, ...headers })
    await client.post({ method: 'notifications/initialized' })
    return client
  }
}

export async function stage(name: DoorName, options: SessionHandlerOptions = {}): Promise<Stage> {
  const made = new Stage()
  made.handler = createSessionHandler(
    () => {
      const puppet = new Puppet(made)
      made.puppets.push(puppet)
      return puppet
    },
    { onerror: (error) => made.errors.push(error), ...options },
  )
  onTestFinished(() => made.handler.close())
  made.door = await door(name, made.handler)
  return made
}

export const initialize = (protocolVersion = '2025-11-25', id: RequestId = 'init', more = {}) => ({
  jsonrpc: '2.0',
  id,
  method: 'initialize',
  params: { protocolVersion, capabilities: {}, clientInfo: { name: 'raw', version: '1' }, ...more },
})

/** One session's client; sends what it is told to. */
export class Client {
  constructor(
    private readonly stage: Pick<Stage, 'door'>,
    readonly id: string,
    readonly headers: Sent['headers'],
  ) {}

  /** The same client at another door, as after a restart or on another node. */
  at(stage: Pick<Stage, 'door'>): Client {
    return new Client(stage, this.id, this.headers)
  }

  with(sent: Sent): Sent {
    return { ...sent, headers: { 'mcp-session-id': this.id, ...this.headers, ...sent.headers } }
  }

  send(sent: Sent): Promise<Answer> {
    return this.stage.door.send(this.with(sent))
  }

  post(message: object, headers: Sent['headers'] = {}): Promise<Answer> {
    return this.send({ headers, body: { jsonrpc: '2.0', ...message } })
  }

  /** A request whose answer is read as it comes. */
  open(message: object): Promise<Stream> {
    return this.stage.door.open(this.with({ body: { jsonrpc: '2.0', ...message } }))
  }

  get(lastEventId?: string, headers: Sent['headers'] = {}): Promise<Stream> {
    return this.stage.door.open(
      this.with({
        method: 'GET',
        headers: { ...headers, ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) },
      }),
    )
  }

  delete(headers: Sent['headers'] = {}): Promise<Answer> {
    return this.send({ method: 'DELETE', headers })
  }
}
