/** A live session: one server instance for a session on this node, and the transport that the instance sees. */

import type { Journal, SessionRecord, SessionStore } from '../backend/backend.js'
import type { Answer, Ask, AskOptions, ClusterNode } from '../cluster/node.js'
import { STANDALONE } from '../stream/event-id.js'
import { type Orphan, outcomeUnknown } from '../stream/orphan.js'
import type { StreamOwner, Streams } from '../stream/streams.js'
import { monotonic } from '../util/clock.js'
import { asError } from '../util/error.js'
import {
  isNotification,
  isRequest,
  isResponse,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  type RequestId,
} from '../wire/jsonrpc.js'
import type { HttpReply, HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { PRIMING_PROTOCOL_VERSION } from '../wire/rules.js'
import type { MessageExtra, ServerInstance, Transport } from '../wire/sdk.js'
import { Calls } from './calls.js'
import { runInSession } from './current.js'
import type { Deadlines } from './deadlines.js'
import type { ResponseMode } from './exchange.js'
import { Exchange, type ExchangeHost, type ExchangeOptions } from './exchange.js'
import { isStateBearing, replay } from './journal.js'
import { askingNode, OutgoingRequests } from './outgoing.js'
import { Received } from './received.js'
import { Recorder } from './recorder.js'
import type { SessionView } from './view.js'

/** How many requests are remembered of which nothing more is to be heard. */
const MAX_ABANDONED = 1000

/** What a live session needs of the node it lives on. */
export interface LiveSessionHost {
  readonly node: ClusterNode
  /** Asks whoever else may have the session at hand. */
  askOthers(session: string, ask: Ask, options?: Pick<AskOptions, 'timeout' | 'patient'>): Promise<Answer[]>
  readonly streams: Streams
  readonly store: SessionStore
  readonly responseMode: ResponseMode
  readonly upgrades: Deadlines
  /** Whether a request may run a second time when nobody knows whether the first time was completed. */
  mayRepeat(
    request: JSONRPCRequest,
    call: (method: string, params: JSONRPCRequest['params']) => Promise<JSONRPCResponse>,
  ): Promise<boolean>
  /** Time to live of a record from now. */
  ttlOf(record: SessionRecord): number
  /** Something that ran on the session has ended. */
  onrest(live: LiveSession): void
  /** The instance is gone: evicted, closed by itself, or its session is over. */
  onclosed(live: LiveSession): void
  onerror(error: Error): void
}

export class LiveSession implements Transport, ExchangeHost {
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined
  readonly sessionId: string

  /** When something last happened here, by the monotonic clock. */
  usedAt = monotonic()
  /** When the record was last seen in the store. */
  checkedAt = monotonic()
  /** When this node last refreshed the expiry of the record. */
  touchedAt = Number.NEGATIVE_INFINITY
  /** How the session's streams know it. */
  owner: StreamOwner
  readonly streams: Streams
  readonly responseMode: ResponseMode
  readonly upgrades: Deadlines

  #recorder: Recorder | undefined
  #server: ServerInstance | undefined
  #exchanges = new Map<RequestId, Exchange>()
  #outgoing: OutgoingRequests
  /** Requests that were cancelled, or left to another node, the last ones. */
  #abandoned = new Set<RequestId>()
  #calls = new Calls()
  #replaying = false
  /** What the server has sent before its session was there for others to see. */
  #held: string[] | undefined = []
  #closed = false
  #over = false

  constructor(
    private readonly host: LiveSessionHost,
    readonly id: string,
    readonly view: SessionView,
  ) {
    this.sessionId = id
    this.owner = { id, priming: false }
    this.streams = host.streams
    this.responseMode = host.responseMode
    this.upgrades = host.upgrades
    this.#outgoing = new OutgoingRequests(host.node.id)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Whether something here would be lost, or noticed, if the instance went away. */
  get busy(): boolean {
    return this.#exchanges.size > 0 || this.#outgoing.size > 0 || this.#calls.size > 0
  }

  /** As stored; undefined until `initialize` was answered. */
  get record(): SessionRecord | undefined {
    return this.#recorder?.record
  }

  get protocolVersion(): string | undefined {
    return this.record?.protocolVersion
  }

  /** The record is in the store, as given. */
  recorded(record: SessionRecord): void {
    this.#recorder = new Recorder(record, this.host, async ({ method, params }) => {
      if (method.startsWith('notifications/')) this.#dispatch({ jsonrpc: '2.0', method })
      else await this.call(method, params)
    })
    this.owner = { id: this.id, priming: record.protocolVersion >= PRIMING_PROTOCOL_VERSION }
    this.view.source = this
  }

  /** The session can be used from now on. */
  publish(): void {
    for (const text of this.#held ?? []) void this.streams.send(this.id, text)
    this.#held = undefined
  }

  async connect(server: ServerInstance): Promise<void> {
    this.#server = server
    await server.connect(this)
    if (this.#closed) throw new Error('the server closed while it was connected')
  }

  /** Part of the SDKs' `Transport`: the server calls it from `connect`. */
  async start(): Promise<void> {}

  /** Feeds the journal to a fresh instance. Notifications that this makes the server send were sent by an earlier one. */
  async replay(journal: Journal, extra: MessageExtra): Promise<void> {
    this.#replaying = true
    try {
      for (const { method, params } of replay(undefined, journal)) {
        if (method.startsWith('notifications/')) {
          this.#dispatch({ jsonrpc: '2.0', method }, extra)
          // what the server does at once because of it belongs to the replay, and comes before the first request
          await new Promise(setImmediate)
        } else {
          const response = await this.call(method, params, extra)
          if (method === 'initialize') this.#checkVersion(response)
          else if ('error' in response) this.host.onerror(new Error(`replay of ${method}: ${response.error.message}`))
        }
      }
    } finally {
      this.#replaying = false
    }
  }

  /** Has the server answer a request whose answer does not go to the client as it is. */
  call(method: string, params: JSONRPCRequest['params'], extra?: MessageExtra): Promise<JSONRPCResponse> {
    if (this.#closed) return Promise.reject(new Error('the server is closed'))
    return this.#calls.make(method, params, (request) => this.#dispatch(request, extra))
  }

  /** Takes a POST of one request. */
  receiveRequest(message: JSONRPCRequest, request: HttpRequest, reply: HttpReply): void {
    this.usedAt = monotonic()
    if (this.#exchanges.has(message.id)) throw new Refusal('idInUse')
    this.#run(message, request, this.#exchange([message], { batch: false, reply }))
  }

  /**
   * Takes the messages of any other POST; resolves when each has reached the instance that needs it, or rejects.
   * False: the instance was gone before anything was done.
   */
  async receive(
    messages: readonly JSONRPCMessage[],
    batch: boolean,
    request: HttpRequest,
    reply: HttpReply,
  ): Promise<boolean> {
    if (this.#closed) return false
    const requests = messages.filter(isRequest)
    if (new Set(requests.map(({ id }) => id)).size < requests.length || this.#runsAnyOf(requests)) {
      throw new Refusal('idInUse')
    }
    // what can still be refused comes before anything runs whose answer would come after the refusal
    for (const message of messages) {
      if (isResponse(message)) await this.#receiveAnswer(message, message.id)
      else if (isNotification(message)) await this.#receiveNotification(message, request)
    }
    if (requests.length === 0) {
      reply.send(202, { 'mcp-session-id': this.id })
      this.#rest()
      return true
    }
    if (this.#closed) throw new Refusal('unavailable')
    if (this.#runsAnyOf(requests)) throw new Refusal('idInUse')
    const exchange = this.#exchange(requests, { batch, reply })
    for (const message of requests) this.#run(message, request, exchange)
    return true
  }

  /** Part of the SDKs' `Transport`: what the server has to say. */
  async send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void> {
    if (this.#closed) throw new Error('the session’s transport is closed')
    if (isResponse(message)) return this.#respond(message)
    if (this.#replaying && isNotification(message)) return
    const related = options?.relatedRequestId
    // but what the client was asked for that request, it is told that it need not answer
    const withdrawn = 'method' in message && message.method === 'notifications/cancelled'
    if (related !== undefined && this.#abandoned.has(related) && !withdrawn) return
    const outgoing = this.#outgoing.rewritten(message)
    const text = JSON.stringify(outgoing)
    if (isRequest(message) && isRequest(outgoing)) this.#outgoing.await(message, outgoing)
    const exchange = related === undefined ? undefined : this.#exchanges.get(related)
    if (exchange?.send(outgoing, text)) return
    if (this.#held) this.#held.push(text)
    else void this.streams.send(this.id, text)
  }

  /** The record as the store has it now. */
  async adopt(stored: SessionRecord): Promise<void> {
    this.checkedAt = monotonic()
    await this.#recorder?.adopt(stored)
  }

  /** A client's notification that another node has received. */
  hear(message: JSONRPCMessage): void {
    this.#dispatch(message)
  }

  /** A client's response to a request of this instance, or progress of one; false if there is no such request. */
  answer(message: JSONRPCMessage): boolean {
    if (isResponse(message)) {
      const id = message.id === undefined ? undefined : this.#outgoing.answered(message.id)
      if (id === undefined) return false
      this.#dispatch({ ...message, id })
      this.#rest()
      return true
    }
    const params = (message as JSONRPCNotification).params
    const progressToken = this.#outgoing.progressToken(params?.progressToken)
    if (progressToken === undefined) return false
    this.#dispatch({ ...message, params: { ...params, progressToken } })
    return true
  }

  /** The client's `cancelled`; false if that request does not run here. */
  cancel(message: JSONRPCMessage, extra?: MessageExtra): boolean {
    const id = (message as JSONRPCNotification).params?.requestId as RequestId
    const exchange = this.#exchanges.get(id)
    if (!exchange) return false
    this.#dispatch(message, extra)
    this.#abandon(id)
    exchange.cancel(id)
    this.#rest()
    return true
  }

  /** Finishes what a node that is gone has left: runs again what is safe to repeat, and says of the rest that nobody knows. */
  async finish(orphan: Orphan, request: HttpRequest): Promise<void> {
    const { stream, requests, progress, writer } = orphan
    if (requests.length === 0) return writer.end()
    const exchange = this.#exchange(requests, {
      reply: undefined,
      batch: false,
      stream: { id: stream, writer },
      progress,
    })
    const call = (method: string, params: JSONRPCRequest['params']) => this.call(method, params)
    for (const message of requests) {
      const repeat = await this.host.mayRepeat(message, call).catch((error) => {
        this.host.onerror(error)
        return false
      })
      if (this.#exchanges.get(message.id) !== exchange) continue
      if (repeat) this.#run(message, request, exchange)
      else {
        this.#exchanges.delete(message.id)
        exchange.answer(message.id, outcomeUnknown(message.id))
      }
    }
    this.#rest()
  }

  /** Leaves running requests to whoever resumes their streams. */
  async handOver(): Promise<void> {
    const exchanges = [...new Set(this.#exchanges.values())]
    await Promise.all(
      exchanges.map(async (exchange) => {
        const ids = [...exchange.unanswered].map(({ id }) => id)
        if (await exchange.handOver()) this.#giveUp(ids)
      }),
    )
  }

  /** Ends the stream that answers a request; the client comes back for the rest. */
  closeSSE(id: RequestId): void {
    this.#exchanges.get(id)?.disconnect()
  }

  closeStandaloneSSE(): void {
    this.streams.disconnect(this.id, STANDALONE)
  }

  /** Ends the instance, not the session. Requests that are running end with an error. Resolves when the server has closed. */
  async dispose(): Promise<void> {
    // Whatever the server does to close, and however long it takes, it is out of use first.
    await this.close()
    try {
      await this.#server?.close()
    } catch (error) {
      this.host.onerror(asError(error))
    }
  }

  /** The session is over: handlers are aborted, streams end without a response. */
  end(): void {
    this.#over = true
    void this.dispose()
  }

  /** Part of the SDKs' `Transport`: called when the server is closed, by whomever. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const exchanges = new Set(this.#exchanges.values())
    this.#exchanges.clear()
    for (const exchange of exchanges) {
      if (this.#over) exchange.abandon()
      else for (const { id } of [...exchange.unanswered]) exchange.answer(id, outcomeUnknown(id))
    }
    this.#calls.fail(new Error('the server closed before it answered'))
    this.host.onclosed(this)
    this.onclose?.()
  }

  /** Resolves when the answers given so far are in the event log. */
  async flushed(): Promise<void> {
    await Promise.all([...this.#exchanges.values()].map((exchange) => exchange.flushed()))
  }

  #exchange(requests: JSONRPCRequest[], options: ExchangeOptions): Exchange {
    const exchange = new Exchange(requests, this, options)
    for (const { id } of requests) {
      this.#exchanges.set(id, exchange)
      this.#abandoned.delete(id)
    }
    return exchange
  }

  #runsAnyOf(requests: readonly JSONRPCRequest[]): boolean {
    return requests.some(({ id }) => this.#exchanges.has(id))
  }

  /** Hands a request to the server. */
  #run(message: JSONRPCRequest, request: HttpRequest, exchange: Exchange): void {
    try {
      this.#dispatch(message, new Received(request, this, exchange))
    } catch (error) {
      this.host.onerror(asError(error))
      this.#exchanges.delete(message.id)
      exchange.refuse(new Refusal('internal'), message.id)
      this.#rest()
    }
  }

  /** Nobody will hear the answers of an exchange: the handlers may as well stop. */
  onlost(exchange: Exchange): void {
    this.#giveUp([...exchange.unanswered].map(({ id }) => id))
    this.#rest()
  }

  /** Requests that are none of this instance's any more: their handlers are aborted, and what they still say is not sent. */
  #giveUp(ids: RequestId[]): void {
    for (const id of ids) {
      this.#abandon(id)
      this.#dispatch({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } })
    }
  }

  #abandon(id: RequestId): void {
    this.#exchanges.delete(id)
    this.#abandoned.add(id)
    const [oldest] = this.#abandoned
    if (oldest !== undefined && this.#abandoned.size > MAX_ABANDONED) this.#abandoned.delete(oldest)
  }

  /** A response, or progress, goes to the node that the wire id names. */
  async #receiveAnswer(message: JSONRPCMessage, wireId: unknown): Promise<void> {
    const { node } = this.host
    const asker = askingNode(wireId)
    if (asker === node.id && this.answer(message)) return
    const ask = { kind: 'answer', message } as const
    const { outcome } = asker === undefined ? { outcome: 'unused' } : await node.ask(asker, this.id, ask)
    if (outcome === 'unreached') throw new Refusal('unreached')
    // progress may come late, when nobody waits for it any more
    if (outcome !== 'used' && isResponse(message)) throw new Refusal('notAwaited')
  }

  async #receiveNotification(message: JSONRPCNotification, request: HttpRequest): Promise<void> {
    const extra = new Received(request)
    switch (message.method) {
      case 'notifications/initialized':
        await this.#recorder?.add(message)
        return this.#dispatch(message, extra)
      case 'notifications/cancelled':
        if (!this.cancel(message, extra)) await this.#tellOthers({ kind: 'cancel', message })
        return
      case 'notifications/progress':
        return this.#receiveAnswer(message, message.params?.progressToken)
      default:
        this.#dispatch(message, extra)
        await this.#tellOthers({ kind: 'notification', message })
    }
  }

  /** What any live session may have a use for. */
  async #tellOthers(ask: Ask): Promise<void> {
    const answers = await this.host.askOthers(this.id, ask, { patient: true })
    if (answers.some(({ outcome }) => outcome === 'unreached')) throw new Refusal('unreached')
  }

  async #respond(response: JSONRPCResponse): Promise<void> {
    const { id } = response
    if (id === undefined) return this.host.onerror(new Error('the server sent an error without an id'))
    if (this.#calls.settle(id, response)) return
    const exchange = this.#exchanges.get(id)
    if (!exchange) return
    const request = exchange.request(id)
    if (request && isStateBearing(request) && 'result' in response) {
      try {
        await this.#recorder?.add(request)
      } catch (error) {
        this.#exchanges.delete(id)
        exchange.refuse(error instanceof Refusal ? error : new Refusal('unavailable'), id)
        return this.#rest()
      }
      // cancelled, or the session ended, meanwhile
      if (this.#exchanges.get(id) !== exchange) return
    }
    this.#exchanges.delete(id)
    try {
      exchange.answer(id, response)
    } catch (error) {
      // not JSON: the server learns why, the client that there was something wrong
      exchange.refuse(new Refusal('internal'), id)
      throw error
    } finally {
      this.#rest()
    }
  }

  #checkVersion(response: JSONRPCResponse): void {
    if ('error' in response) throw new Error(`the server refused the replayed initialize: ${response.error.message}`)
    const { protocolVersion } = response.result
    if (protocolVersion !== this.protocolVersion) {
      throw new Error(`the session speaks ${this.protocolVersion}, the restored server ${String(protocolVersion)}`)
    }
  }

  #dispatch(message: JSONRPCMessage, extra?: MessageExtra): void {
    if (!this.onmessage) throw new Error('the server was not connected to its transport')
    runInSession(this.view, () => this.onmessage?.(message, extra))
  }

  #rest(): void {
    this.usedAt = monotonic()
    if (!this.#closed) this.host.onrest(this)
  }
}
