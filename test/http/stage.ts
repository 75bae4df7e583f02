/** A handler behind one of the adapters, with servers that the test moves by hand. */
import type { JSONRPCRequest, MessageExtra, RequestId, SessionHandler, SessionHandlerOptions } from '../../src/index.js'
import { type Door, type DoorName, door, type Sent } from '../harness/door.js'
import type { Answer } from '../harness/reply.js'
import {
  type Received,
  type Script,
  type ScriptedFactory,
  type ScriptedServer,
  scripted,
  UNANSWERED,
} from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { type InitializeOptions, openSession, type WireClient } from '../harness/wire-client.js'

/** A request that waits for the test's answer. */
export class Call {
  readonly server: ScriptedServer
  readonly request: JSONRPCRequest
  readonly extra: MessageExtra | undefined

  constructor({ server, message, extra }: Received) {
    this.server = server
    this.request = message as JSONRPCRequest
    this.extra = extra
  }

  answer(result: Record<string, unknown> = { done: this.request.id }): Promise<void> {
    return this.server.respond(this.request, result)
  }

  say(data: unknown): Promise<void> {
    return this.server.say(data, this.request.id)
  }

  ask(id: RequestId, method: string): Promise<void> {
    return this.server.ask(id, method, {}, this.request.id)
  }
}

/** `hold` waits for the test. */
const SCRIPT: Script = {
  echo: ({ params }) => ({ echo: params ?? null }),
  hold: () => UNANSWERED,
}

export class Stage {
  constructor(
    readonly handler: SessionHandler,
    readonly factory: ScriptedFactory,
    readonly door: Door,
    /** What `onerror` was told. */
    readonly errors: readonly Error[],
  ) {}

  /** The newest instance. */
  get server(): ScriptedServer {
    return this.factory.last
  }

  /** The request with an id, once an instance has it. */
  async call(id: RequestId): Promise<Call> {
    const isIt = ({ message }: Received) => 'method' in message && 'id' in message && message.id === id
    return new Call(await this.factory.received.first(isIt, `request ${id} at the server`))
  }

  /** A request of no session. */
  async send(sent: Sent): Promise<Answer> {
    return (await this.door.open(sent)).answer()
  }

  session(options?: InitializeOptions): Promise<WireClient> {
    return openSession(this.door, options)
  }
}

export async function stage(name: DoorName, options: SessionHandlerOptions = {}, script: Script = {}): Promise<Stage> {
  const factory = scripted({ ...SCRIPT, ...script })
  const errors: Error[] = []
  const handler = serve(factory, { onerror: (error) => errors.push(error), ...options })
  return new Stage(handler, factory, await door(name, handler), errors)
}

/** Sent as it is, where {@link WireClient} would add what a message needs. */
export const request = (id: RequestId, method = 'echo', more = {}) => ({ jsonrpc: '2.0', id, method, ...more })
export const notification = (method: string, params = {}) => ({ jsonrpc: '2.0', method, params })
