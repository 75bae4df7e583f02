/** A client that speaks the protocol by hand, message by message, in any revision that has sessions. */
import type { SessionHandler } from '../../src/index.js'
import { type Door, parsedDoor, type Sent } from './door.js'
import type { Answer, Reply } from './reply.js'

export const CLIENT_INFO = { name: 'wire-client', version: '1.2.3' }
export const LATEST = '2025-11-25'

/** Where requests go: a way in, or a handler, which is called directly. */
export type Target = Door | Pick<SessionHandler, 'fetch'>

/** Beside what the client sends by itself. */
export type Extra = Pick<Sent, 'headers' | 'authInfo'>

/** A message, or several in a batch (2025-03-26); `jsonrpc` is added. */
export type Message = object | object[]

const doorOf = (target: Target): Door =>
  'open' in target ? target : parsedDoor((request, options) => target.fetch(request, options))

const withVersion = (message: Message): Message =>
  Array.isArray(message) ? message.map((each) => ({ jsonrpc: '2.0', ...each })) : { jsonrpc: '2.0', ...message }

/** A client that has its session id, and can go from node to node with it. */
export class WireClient {
  #door: Door
  #requests = 0

  constructor(
    target: Target,
    readonly sessionId: string,
    /** Of the protocol; what the client does is what that revision has. */
    readonly version: string = LATEST,
    private readonly always: Extra = {},
  ) {
    this.#door = doorOf(target)
  }

  /** From now on it goes there. */
  on(target: Target): this {
    this.#door = doorOf(target)
    return this
  }

  /** The same client, who goes there; this one stays where it is. */
  at(target: Target): WireClient {
    return new WireClient(target, this.sessionId, this.version, this.always)
  }

  /** What is sent, with the session's headers. */
  with(sent: Sent): Sent {
    const headers = {
      'mcp-session-id': this.sessionId,
      // the header came with 2025-06-18
      ...(this.version >= '2025-06-18' && { 'mcp-protocol-version': this.version }),
      ...this.always.headers,
      ...sent.headers,
    }
    return { authInfo: this.always.authInfo, ...sent, headers }
  }

  /** Any request of the session; resolves with the head of the answer. */
  raw(sent: Sent): Promise<Reply> {
    return this.#door.open(this.with(sent))
  }

  /** Any request of the session; resolves with the whole answer. */
  async send(sent: Sent): Promise<Answer> {
    return (await this.raw(sent)).answer()
  }

  /** A POST; resolves with the head of the answer. */
  open(message: Message, extra: Extra = {}): Promise<Reply> {
    return this.raw({ ...extra, body: withVersion(message) })
  }

  /** A POST; resolves with the whole answer. */
  post(message: Message, extra: Extra = {}): Promise<Answer> {
    return this.send({ ...extra, body: withVersion(message) })
  }

  request(method: string, params?: Record<string, unknown>, extra?: Extra): Promise<Answer> {
    return this.post({ id: ++this.#requests, method, ...(params && { params }) }, extra)
  }

  notify(method: string, params?: Record<string, unknown>, extra?: Extra): Promise<Answer> {
    return this.post({ method, ...(params && { params }) }, extra)
  }

  respond(id: string | number, result: Record<string, unknown> = {}, extra?: Extra): Promise<Answer> {
    return this.post({ id, result }, extra)
  }

  /** The standalone stream, or with an event id the stream that it is of. */
  get(lastEventId?: string, { headers, ...extra }: Extra = {}): Promise<Reply> {
    const cursor = lastEventId !== undefined && { 'last-event-id': lastEventId }
    return this.raw({ ...extra, method: 'GET', headers: { ...headers, ...cursor } })
  }

  delete(extra: Extra = {}): Promise<Answer> {
    return this.send({ ...extra, method: 'DELETE' })
  }
}

export interface InitializeOptions extends Extra {
  version?: string
  capabilities?: Record<string, unknown>
}

/** The message that begins a session. */
export const initializeMessage = ({ version = LATEST, capabilities = {} }: InitializeOptions = {}) => ({
  jsonrpc: '2.0',
  id: 'init',
  method: 'initialize',
  params: { protocolVersion: version, capabilities, clientInfo: CLIENT_INFO },
})

/** An `initialize`, and its answer. */
export async function initialize(target: Target, options: InitializeOptions = {}): Promise<Answer> {
  const { headers, authInfo } = options
  const reply = await doorOf(target).open({ ...(headers && { headers }), authInfo, body: initializeMessage(options) })
  return reply.answer()
}

/** A session whose handshake is done. */
export async function openSession(target: Target, options: InitializeOptions = {}): Promise<WireClient> {
  const answer = await initialize(target, options)
  if (answer.status !== 200 || answer.sessionId === undefined) {
    throw new Error(`initialize: ${answer.status} ${JSON.stringify(answer.body)}`)
  }
  const { headers, authInfo } = options
  const client = new WireClient(target, answer.sessionId, options.version, { ...(headers && { headers }), authInfo })
  const accepted = await client.notify('notifications/initialized')
  if (accepted.status !== 202) throw new Error(`initialized: ${accepted.status}`)
  return client
}
