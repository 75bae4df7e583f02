/** A live session: one server instance for a session on this node, and the transport that the instance sees. */
import type { Journal, SessionRecord, SessionStore } from '../backend/backend.js'
import type { Ask, ClusterNode } from '../cluster/node.js'
import type { HttpReply, HttpRequest } from '../http/message.js'
import { Refusal } from '../http/refusal.js'
import { PRIMING_PROTOCOL_VERSION } from '../http/rules.js'
import {
  isNotification,
  isRequest,
  isResponse,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  type RequestId,
} from '../jsonrpc.js'
import type { MessageExtra, ResponseMode, ServerInstance, Transport } from '../options.js'
import { STANDALONE } from '../stream/event-id.js'
import { type Orphan, outcomeUnknown } from '../stream/orphan.js'
import type { StreamOwner, Streams } from '../stream/streams.js'
import { runInSession } from './current.js'
import type { Deadlines } from './deadlines.js'
import { Exchange, type ExchangeOptions } from './exchange.js'
import { isStateBearing, journalled, replay } from './journal.js'
import { askingNode, OutgoingRequests } from './outgoing.js'
import type { SessionView } from './view.js'

/** How long a new instance may take to answer one replayed message, in ms. */
const REPLAY_TIMEOUT = 60_000

/** What a live session needs of the node it lives on. */
export interface LiveSessionHost {
  readonly node: ClusterNode
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
  /** Nothing runs on the session any more, for now. */
  onidle(live: LiveSession): void
  /** The instance is gone: evicted, closed by itself, or its session is over. */
  onclosed(live: LiveSession): void
  onerror(error: Error): void
}

export class LiveSession implements Transport {
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined
  readonly sessionId: string
  /** How the session's streams know it. */
  owner: StreamOwner

  /** When something last happened here, and when the record was last seen in the store, in ms since the epoch. */
  usedAt = Date.now()
  checkedAt = Date.now()
  touchedAt = Date.now()

  #record: SessionRecord | undefined
  #server: ServerInstance | undefined
  #exchanges = new Map<RequestId, Exchange>()
  #outgoing: OutgoingRequests
  #replies = new Map<RequestId, (response: JSONRPCResponse | Error) => void>()
  #calls = 0
  #replaying = false
  #journalling: Promise<void> = Promise.resolve()
  #closed = false
  #over = false

  constructor(
    private readonly host: LiveSessionHost,
    readonly id: string,
    readonly view: SessionView,
  ) {
    this.sessionId = id
    this.owner = { id, priming: false }
    this.#outgoing = new OutgoingRequests(host.node.id)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Whether something here would be lost, or noticed, if the instance went away. */
  get busy(): boolean {
    return this.#exchanges.size > 0 || this.#outgoing.size > 0 || this.#replies.size > 0
  }

  /** As stored; undefined until `initialize` was answered. */
  get record(): SessionRecord | undefined {
    return this.#record
  }

  set record(record: SessionRecord) {
    this.#record = record
    this.owner = { id: this.id, priming: record.protocolVersion >= PRIMING_PROTOCOL_VERSION }
  }

  get protocolVersion(): string | undefined {
    return this.record?.protocolVersion
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
    const id = `mcp-roam:${this.#calls++}`
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => settle(new Error(`no answer to ${method} within ${REPLAY_TIMEOUT} ms`)),
        REPLAY_TIMEOUT,
      )
      const settle = (response: JSONRPCResponse | Error) => {
        this.#replies.delete(id)
        clearTimeout(timer)
        if (response instanceof Error) reject(response)
        else resolve(response)
      }
      this.#replies.set(id, settle)
      this.#dispatch({ jsonrpc: '2.0', id, method, ...(params && { params }) }, extra)
    })
  }

  /** Takes a POST of one request. */
  receiveRequest(message: JSONRPCRequest, request: HttpRequest, reply: HttpReply): void {
    this.usedAt = Date.now()
    if (this.#exchanges.has(message.id)) throw new Refusal('idInUse')
    const exchange = this.#exchange([message], { batch: false, reply })
    this.#dispatch(message, new ReceivedWith(request, this, exchange))
  }

  /** Takes the messages of any other POST; resolves when each has reached the instance that needs it, or rejects. */
  async receive(
    messages: readonly JSONRPCMessage[],
    batch: boolean,
    request: HttpRequest,
    reply: HttpReply,
  ): Promise<void> {
    this.usedAt = Date.now()
    const requests = messages.filter(isRequest)
    if (
      requests.some(({ id }) => this.#exchanges.has(id)) ||
      new Set(requests.map(({ id }) => id)).size < requests.length
    ) {
      throw new Refusal('idInUse')
    }
    const exchange = requests.length > 0 ? this.#exchange(requests, { batch, reply }) : undefined
    for (const message of messages) {
      if (isRequest(message)) this.#dispatch(message, new ReceivedWith(request, this, exchange as Exchange))
      else if (isResponse(message)) await this.#receiveAnswer(message, message.id)
      else await this.#receiveNotification(message, request)
    }
    if (!exchange) reply.send(202, { 'mcp-session-id': this.id })
  }

  /** Part of the SDKs' `Transport`: what the server has to say. */
  async send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void> {
    if (this.#closed) throw new Error('the session’s transport is closed')
    if (isResponse(message)) return this.#respond(message)
    let outgoing: JSONRPCMessage = message
    if (isNotification(message)) {
      if (this.#replaying) return
      if (message.method === 'notifications/cancelled') outgoing = this.#outgoing.cancel(message)
    } else outgoing = this.#outgoing.ask(message)
    const related = options?.relatedRequestId
    const exchange = related === undefined ? undefined : this.#exchanges.get(related)
    if (!exchange?.send(outgoing)) void this.host.streams.send(this.id, JSON.stringify(outgoing))
  }

  /** Makes the stored record and this instance agree on what another node has changed. */
  async adopt(stored: SessionRecord): Promise<void> {
    const known = this.record
    this.record = stored
    this.checkedAt = Date.now()
    if (!known || stored.revision === known.revision) return
    for (const { method, params } of replay(known.journal, stored.journal)) {
      if (method.startsWith('notifications/')) this.#dispatch({ jsonrpc: '2.0', method })
      else await this.call(method, params)
    }
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
    exchange.cancel(id)
    this.#exchanges.delete(id)
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
    for (const message of requests) {
      const repeat = await this.host
        .mayRepeat(message, (method, params) => this.call(method, params))
        .catch((error) => {
          this.host.onerror(error)
          return false
        })
      if (this.#exchanges.get(message.id) !== exchange) continue
      if (repeat) this.#dispatch(message, new ReceivedWith(request, this, exchange))
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
        if (!(await exchange.handOver())) return
        for (const id of ids) this.#exchanges.delete(id)
      }),
    )
  }

  closeSSE(exchange: Exchange): void {
    exchange.disconnect()
  }

  closeStandaloneSSE(): void {
    this.host.streams.disconnect(this.id, STANDALONE)
  }

  /** Ends the instance, not the session. Requests that are running end with an error. */
  async dispose(): Promise<void> {
    await this.#server?.close()
    await this.close()
  }

  /** The session is over: handlers are aborted, streams end without a response. */
  async end(): Promise<void> {
    this.#over = true
    await this.dispose()
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
    for (const settle of [...this.#replies.values()]) settle(new Error('the server closed before it answered'))
    this.onclose?.()
    this.host.onclosed(this)
  }

  /** Resolves when what was sent so far is in the event log. */
  async flushed(): Promise<void> {
    await Promise.all([...this.#exchanges.values()].map((exchange) => exchange.flushed()))
  }

  #exchange(
    requests: JSONRPCRequest[],
    options: Pick<ExchangeOptions, 'reply' | 'batch' | 'stream' | 'progress'>,
  ): Exchange {
    const { streams, responseMode, upgrades } = this.host
    const onlost = (lost: Exchange) => this.#abort(lost)
    const exchange = new Exchange(requests, {
      ...options,
      streams,
      owner: this.owner,
      responseMode,
      upgrades,
      onlost,
    })
    for (const { id } of requests) this.#exchanges.set(id, exchange)
    return exchange
  }

  /** Nobody will hear the answers: the handlers may as well stop. */
  #abort(exchange: Exchange): void {
    for (const { id } of [...exchange.unanswered]) {
      this.#exchanges.delete(id)
      this.#dispatch({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } })
    }
    this.#rest()
  }

  /** A response, or progress, goes to the node that the wire id names. */
  async #receiveAnswer(message: JSONRPCMessage, wireId: unknown): Promise<void> {
    const { node } = this.host
    const asker = askingNode(wireId)
    if (asker === node.id && this.answer(message)) return
    const outcome =
      asker === undefined || asker === node.id ? 'unused' : await node.ask(asker, this.id, { kind: 'answer', message })
    if (outcome === 'unreached') throw new Refusal('unreached')
    // progress may come late, when nobody waits for it any more
    if (outcome !== 'used' && isResponse(message)) throw new Refusal('notAwaited')
  }

  /** What any live session may have a use for. */
  async #tellOthers(ask: Ask): Promise<void> {
    const outcomes = await this.host.node.askOthers(this.id, ask)
    if (outcomes.includes('unreached')) throw new Refusal('unreached')
  }

  async #receiveNotification(message: JSONRPCNotification, request: HttpRequest): Promise<void> {
    const extra = new ReceivedWith(request, this)
    switch (message.method) {
      case 'notifications/initialized':
        await this.#journal(message)
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

  async #respond(response: JSONRPCResponse): Promise<void> {
    const { id } = response
    if (id === undefined) return this.host.onerror(new Error('the server sent an error without an id'))
    const settle = this.#replies.get(id)
    if (settle) return settle(response)
    const exchange = this.#exchanges.get(id)
    if (!exchange) return
    const request = exchange.request(id)
    if (request && isStateBearing(request) && 'result' in response) {
      try {
        await this.#journal(request)
      } catch (error) {
        this.#exchanges.delete(id)
        exchange.refuse(error instanceof Refusal ? error : new Refusal('unavailable'), id)
        return this.#rest()
      }
    }
    if (this.#exchanges.get(id) !== exchange) return
    this.#exchanges.delete(id)
    exchange.answer(id, response)
    this.#rest()
  }

  /** Stores what a message changes in the journal, before it counts. */
  #journal(message: JSONRPCRequest | JSONRPCNotification): Promise<void> {
    const turn = this.#journalling.then(async () => {
      let conflict = false
      for (;;) {
        const record = this.record as SessionRecord
        const journal = journalled(record.journal, message)
        if (journal === record.journal) break
        const updated = { ...record, revision: record.revision + 1, journal }
        if (await this.host.store.update(updated, this.host.ttlOf(updated))) {
          this.record = updated
          // A node that cannot be reached finds out when it next compares its record with the store.
          await this.host.node.askOthers(this.id, { kind: 'updated', revision: updated.revision }).catch(() => {})
          break
        }
        const stored = await this.host.store.load(this.id)
        if (!stored) throw new Refusal('sessionNotFound')
        await this.adopt(stored)
        conflict = true
      }
      // what another node had changed was just told to the instance after it had handled this message
      if (conflict && isRequest(message)) await this.call(message.method, message.params)
    })
    this.#journalling = turn.catch(() => {})
    return turn
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
    this.usedAt = Date.now()
    if (!this.busy) this.host.onidle(this)
  }
}

/** What handlers are told of the HTTP request that a message came in. Built for each message, read by few. */
class ReceivedWith implements MessageExtra {
  readonly #request: HttpRequest
  closeSSEStream?: () => void
  closeStandaloneSSEStream?: () => void

  constructor(request: HttpRequest, live: LiveSession, exchange?: Exchange) {
    this.#request = request
    if (exchange && live.owner.priming) {
      this.closeSSEStream = () => live.closeSSE(exchange)
      this.closeStandaloneSSEStream = () => live.closeStandaloneSSE()
    }
  }

  get authInfo(): NonNullable<MessageExtra['authInfo']> {
    return this.#request.authInfo as NonNullable<MessageExtra['authInfo']>
  }

  get requestInfo(): NonNullable<MessageExtra['requestInfo']> {
    return this.#request.requestInfo
  }

  get request(): Request {
    return this.#request.request
  }
}
