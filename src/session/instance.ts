/** A server instance, and the transport that it sees. */
import type { Journal } from '../backend/backend.js'
import { asError } from '../util/error.js'
import {
  isNotification,
  isResponse,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  type RequestId,
} from '../wire/jsonrpc.js'
import type { MessageExtra, ServerInstance, Transport } from '../wire/sdk.js'
import { runInSession } from './current.js'
import { replay } from './journal.js'
import type { OpeningQuestions } from './opening-questions.js'
import { OwnRequests } from './own-requests.js'
import type { Session } from './session.js'

/** Who hears what the server says. */
export interface InstanceListener {
  /** The response to a client's request. */
  respond(id: RequestId, response: JSONRPCResponse): Promise<void>
  /** Anything else; `related` is the request that it is sent on behalf of. Resolves when the server may send more. */
  send(message: JSONRPCRequest | JSONRPCNotification, related: RequestId | undefined): Promise<void> | undefined
  /** The instance is out of use; the server's own `close` may still be at work. */
  closed(): void
  closeSSEStream(id: RequestId): void
  closeStandaloneSSEStream(): void
  onerror(error: Error): void
}

export class Instance implements Transport {
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined
  readonly sessionId: string

  readonly #own = new OwnRequests()
  #server: ServerInstance | undefined
  #onstart = () => {}
  #replaying = false
  #closed = false

  constructor(
    private readonly session: Session,
    private readonly opening: OpeningQuestions,
    private readonly listener: InstanceListener,
  ) {
    this.sessionId = session.id
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Whether this node waits for the server to answer a request of the node's own. */
  get busy(): boolean {
    return this.#own.size > 0
  }

  /**
   * Connects the server, and does `first` as soon as it can take messages: a server's `connect` may wait until it knows its
   * client, which it learns from what `first` tells it.
   */
  async connect<T>(server: ServerInstance, first: () => Promise<T>): Promise<T> {
    this.#server = server
    const started = new Promise<void>((resolve) => {
      this.#onstart = resolve
    })
    const connected = server.connect(this)
    await Promise.race([started, connected])
    const [result] = await Promise.all([first(), connected])
    if (this.#closed) throw new Error('the server closed while it was connected')
    return result
  }

  /** Part of the SDKs' `Transport`: the server calls it from `connect`. */
  async start(): Promise<void> {
    this.#onstart()
  }

  /** Hands the server a message of the client. */
  dispatch(message: JSONRPCMessage, extra?: MessageExtra): void {
    if (!this.onmessage) throw new Error('the server was not connected to its transport')
    if ('method' in message && message.method === 'notifications/initialized') this.opening.begin()
    runInSession(this.session, () => this.onmessage?.(message, extra))
  }

  /**
   * Has the server answer a request whose response does not go to the client as it is.
   *
   * @throws Error if the server does not answer in time, or closes.
   */
  call(method: string, params: JSONRPCRequest['params'], extra?: MessageExtra): Promise<JSONRPCResponse> {
    if (this.#closed) return Promise.reject(new Error('the server is closed'))
    return this.#own.make(method, params, (request) => this.dispatch(request, extra))
  }

  /** Tells the server something that it missed, as the client told it. */
  async tell({ method, params }: Pick<JSONRPCRequest, 'method' | 'params'>): Promise<void> {
    if (method.startsWith('notifications/')) this.dispatch({ jsonrpc: '2.0', method })
    else await this.call(method, params)
  }

  /**
   * Feeds the journal to a fresh server. Notifications that this makes the server send are dropped: an earlier instance
   * has sent them.
   *
   * @param protocolVersion What the session speaks; a server that negotiates another version cannot serve it.
   */
  async replay(journal: Journal, protocolVersion: string | undefined, extra: MessageExtra): Promise<void> {
    this.#replaying = true
    try {
      for (const { method, params } of replay(undefined, journal)) {
        if (method.startsWith('notifications/')) {
          this.dispatch({ jsonrpc: '2.0', method }, extra)
          // What the server does at once because of it belongs to the replay, and comes before the first request.
          await this.opening.settled()
        } else {
          const response = await this.call(method, params, extra)
          if (method === 'initialize') checkVersion(response, protocolVersion)
          else if ('error' in response) {
            this.listener.onerror(new Error(`replay of ${method}: ${response.error.message}`))
          }
        }
      }
    } finally {
      this.#replaying = false
    }
  }

  /**
   * Part of the SDKs' `Transport`: what the server has to say. A server that waits for it is slowed down to what its client
   * and the event log can take.
   */
  async send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void> {
    if (this.#closed) throw new Error('the session’s transport is closed')
    if (isResponse(message)) {
      const { id } = message
      if (id === undefined) return this.listener.onerror(new Error('the server sent an error without an id'))
      if (!this.#own.respond(id, message)) await this.listener.respond(id, message)
      return
    }
    // What it asks goes out, and so what it no longer wants to know.
    if (this.#replaying && isNotification(message) && message.method !== 'notifications/cancelled') return
    await this.listener.send(message, options?.relatedRequestId)
  }

  /** Ends the stream that answers a request; the client comes back for the rest. As the SDKs' transports have it. */
  closeSSEStream(id: RequestId): void {
    this.listener.closeSSEStream(id)
  }

  closeStandaloneSSEStream(): void {
    this.listener.closeStandaloneSSEStream()
  }

  /** Part of the SDKs' `Transport`: called when the server is closed, by whomever. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.listener.closed()
    this.#own.fail(new Error('the server closed before it answered'))
    try {
      this.onclose?.()
    } catch (error) {
      this.listener.onerror(asError(error))
    }
  }

  /** Closes the server, too. Resolves when it has closed; never rejects. */
  async dispose(): Promise<void> {
    // Whatever the server does to close, and however long it takes, the instance is out of use first.
    await this.close()
    try {
      await this.#server?.close()
    } catch (error) {
      this.listener.onerror(asError(error))
    }
  }
}

function checkVersion(response: JSONRPCResponse, expected: string | undefined): void {
  if ('error' in response) throw new Error(`the server refused the replayed initialize: ${response.error.message}`)
  const { protocolVersion } = response.result
  if (protocolVersion !== expected) {
    throw new Error(`the session speaks ${expected}, the restored server ${String(protocolVersion)}`)
  }
}
