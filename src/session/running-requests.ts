/** The client's requests that run on a live session here, each until it is answered, cancelled or left to another node. */
import { outcomeUnknown, timedOut, type UnfinishedStream } from '../stream/unfinished.js'
import { asError } from '../util/error.js'
import { nextTurn } from '../util/next-turn.js'
import {
  isObject,
  isRequest,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  type RequestId,
} from '../wire/jsonrpc.js'
import type { HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { resumesAnswers } from '../wire/rules.js'
import type { MessageExtra } from '../wire/sdk.js'
import type { Deadlines } from './deadlines.js'
import { Exchange, type ExchangeHost, type ExchangeOptions } from './exchange.js'
import type { Instance } from './instance.js'
import { isStateBearing } from './journal.js'
import { RequestExtra } from './message-extra.js'
import { Silences } from './silences.js'

/** Cancelled or handed-over request ids, kept so that late messages of theirs are dropped. */
const MAX_ABANDONED = 1000

export interface RunningRequestsHost extends Omit<ExchangeHost, 'onlost'> {
  /** Stores what a state-bearing request changes. */
  journal(request: JSONRPCRequest): Promise<void>
  /** How many requests may run here at once. */
  readonly maxRequests: number
  /** Whether a request may run a second time when nobody knows whether the first time was completed. */
  mayRepeat(request: JSONRPCRequest): Promise<boolean>
  /** How long a request may be unanswered while nothing is said on its behalf; undefined: for ever. */
  readonly silences: Deadlines | undefined
  /** Whether the client owes an answer to something that it was asked on behalf of a request. */
  asks(id: RequestId): boolean
  /** A request has ended here. */
  used(): void
}

export class RunningRequests {
  readonly #exchanges = new Map<RequestId, Exchange>()
  readonly #abandoned = new Set<RequestId>()
  readonly #exchangeHost: ExchangeHost
  readonly #silences: Silences

  constructor(
    private readonly instance: Instance,
    private readonly host: RunningRequestsHost,
  ) {
    this.#silences = new Silences(host.silences, (id) => this.#timeOut(id))
    this.#exchangeHost = {
      streams: host.streams,
      responseMode: host.responseMode,
      upgrades: host.upgrades,
      maxMessage: host.maxMessage,
      onerror: host.onerror,
      get streamSession() {
        return host.streamSession
      },
      onlost: (exchange) => {
        this.#giveUp(exchange.unanswered)
        host.used()
      },
    }
  }

  get size(): number {
    return this.#exchanges.size
  }

  /** Whether a client waits for an answer on the connection of its POST. */
  get isFollowed(): boolean {
    return this.#all().some((exchange) => exchange.isFollowed)
  }

  /** Whether a client waits for an answer, or may come back for it. */
  get isWanted(): boolean {
    return this.#all().some((exchange) => exchange.isWanted)
  }

  /** The exchange that a running request is part of. */
  get(id: RequestId): Exchange | undefined {
    return this.#exchanges.get(id)
  }

  /** @throws Refusal if the id is that of a request still running, or too many run. */
  check({ id }: JSONRPCRequest): void {
    if (this.#exchanges.has(id)) throw new Refusal('idInUse')
    this.#checkRoom(1)
  }

  /** @throws Refusal if one of the ids is that of a request still running, two are the same, or they are too many. */
  checkAll(requests: readonly JSONRPCRequest[]): void {
    // It would be too long however long its client waits.
    if (requests.length > this.host.maxRequests) throw new Refusal('batchTooLong')
    const ids = new Set(requests.map(({ id }) => id))
    if (ids.size < requests.length || requests.some(({ id }) => this.#exchanges.has(id))) throw new Refusal('idInUse')
    this.#checkRoom(requests.length)
  }

  /** Hands requests that came together to the server. */
  start(
    requests: readonly JSONRPCRequest[],
    request: HttpRequest,
    options: Omit<ExchangeOptions, 'resumes'>,
  ): Promise<void> | undefined {
    const exchange = this.#exchange(requests, { ...options, resumes: resumesAnswers(request) })
    const [first, ...others] = requests
    if (first) this.#run(first, request, exchange)
    return others.length > 0 ? this.#runOneByOne(others, request, exchange) : undefined
  }

  /** The server said something: the request that it is on behalf of is not silent. */
  heard(message: JSONRPCRequest | JSONRPCNotification, related: RequestId | undefined): void {
    if (!this.host.silences) return
    const id = related ?? this.#reported(message)
    if (id !== undefined) this.listenTo(id)
  }

  /** A request may be silent from now on, for as long as any. */
  listenTo(id: RequestId): void {
    if (this.#exchanges.has(id)) this.#silences.heard(id)
  }

  /** The server's response to a request. */
  async respond(id: RequestId, response: JSONRPCResponse): Promise<void> {
    const exchange = this.#exchanges.get(id)
    if (!exchange) return
    const request = exchange.request(id)
    this.#silences.forget(id)
    if (request && isStateBearing(request) && 'result' in response) {
      try {
        await this.host.journal(request)
      } catch (error) {
        this.#release(id)
        exchange.refuse(error instanceof Refusal ? error : new Refusal('unavailable'), id)
        return this.host.used()
      }
      // It was cancelled, or the session ended, meanwhile.
      if (this.#exchanges.get(id) !== exchange) return
    }
    this.#release(id)
    try {
      exchange.respond(id, response)
    } catch (error) {
      // The response is not JSON: the server is told why, the client that something went wrong.
      exchange.refuse(new Refusal('internal'), id)
      throw error
    } finally {
      this.host.used()
    }
  }

  /** Whether something that the server sends on behalf of a request is dropped, because nobody is to hear of it any more. */
  drops(message: JSONRPCRequest | JSONRPCNotification, related: RequestId): boolean {
    // But the client is told that it need not answer what it was asked for that request.
    const withdraws = !isRequest(message) && message.method === 'notifications/cancelled'
    return this.#abandoned.has(related) && !withdraws
  }

  /** The client's `cancelled`; false if that request does not run here. */
  cancel(cancelled: JSONRPCMessage, extra?: MessageExtra): boolean {
    const id = (cancelled as JSONRPCNotification).params?.requestId as RequestId
    const exchange = this.#exchanges.get(id)
    if (!exchange) return false
    this.instance.dispatch(cancelled, extra)
    this.#abandon(id)
    exchange.cancel(id)
    this.host.used()
    return true
  }

  /** Finishes a stream that was left unfinished: runs again what is safe to repeat; the outcome of the rest is unknown. */
  async finish({ stream, requests, progress, writer }: UnfinishedStream, request: HttpRequest): Promise<void> {
    if (requests.length === 0) return writer.end()
    const options = { reply: undefined, batch: false, resumes: true, stream: { id: stream, writer }, progress }
    const exchange = this.#exchange(requests, options)
    for (const [index, message] of requests.entries()) {
      if (index > 0) await nextTurn()
      const repeat = await this.host.mayRepeat(message).catch((error) => {
        this.host.onerror(asError(error))
        return false
      })
      if (this.#exchanges.get(message.id) !== exchange) continue
      if (repeat) this.#run(message, request, exchange)
      else {
        this.#release(message.id)
        exchange.respond(message.id, outcomeUnknown(message.id))
      }
    }
    this.host.used()
  }

  /** Leaves running requests to whoever resumes their streams. */
  async handOver(): Promise<void> {
    await Promise.all(
      this.#all().map(async (exchange) => {
        const requests = exchange.unanswered
        if (await exchange.handOver()) this.#giveUp(requests)
      }),
    )
  }

  /** Answers what still runs: nobody goes on with it, and whether it was carried out is unknown. */
  giveUp(): void {
    for (const exchange of this.#all()) {
      exchange.stay()
      const requests = exchange.unanswered
      this.#giveUp(requests)
      for (const { id } of requests) exchange.respond(id, outcomeUnknown(id))
    }
    this.host.used()
  }

  /** The instance is out of use: all requests end, with an error, or without a word if the session is over. */
  close(over: boolean): void {
    const exchanges = this.#all()
    for (const id of [...this.#exchanges.keys()]) this.#release(id)
    for (const exchange of exchanges) {
      if (over) exchange.abandon()
      else for (const { id } of exchange.unanswered) exchange.respond(id, outcomeUnknown(id))
    }
  }

  #checkRoom(more: number): void {
    if (more > 0 && this.#exchanges.size + more > this.host.maxRequests) throw new Refusal('tooManyRequests')
  }

  #all(): Exchange[] {
    return [...new Set(this.#exchanges.values())]
  }

  #exchange(requests: readonly JSONRPCRequest[], options: ExchangeOptions): Exchange {
    const exchange = new Exchange(requests, this.#exchangeHost, options)
    for (const { id } of requests) {
      this.#exchanges.set(id, exchange)
      this.#abandoned.delete(id)
    }
    return exchange
  }

  /** Each in a turn of the event loop, so that a batch does not block it. One may be cancelled before its turn. */
  async #runOneByOne(requests: readonly JSONRPCRequest[], request: HttpRequest, exchange: Exchange): Promise<void> {
    for (const message of requests) {
      await nextTurn()
      if (this.#exchanges.get(message.id) === exchange) this.#run(message, request, exchange)
    }
  }

  #run(message: JSONRPCRequest, request: HttpRequest, exchange: Exchange): void {
    this.#silences.heard(message.id)
    try {
      this.instance.dispatch(message, new RequestExtra(request, exchange))
    } catch (error) {
      this.host.onerror(asError(error))
      this.#release(message.id)
      exchange.refuse(new Refusal('internal'), message.id)
      this.host.used()
    }
  }

  /** Requests that are none of this instance's any more: their handlers are aborted, and what they still say is not sent. */
  #giveUp(requests: readonly JSONRPCRequest[]): void {
    for (const { id } of requests) {
      this.#abandon(id)
      this.instance.dispatch({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } })
    }
  }

  #timeOut(id: RequestId): void {
    if (this.host.asks(id)) {
      // It waits for its client, not its client for it.
      this.listenTo(id)
      return
    }
    const exchange = this.#exchanges.get(id)
    const request = exchange?.request(id)
    if (!exchange || !request) return
    this.#giveUp([request])
    exchange.respond(id, timedOut(id))
    this.host.used()
  }

  /** The request whose progress a notification reports, if it does. */
  #reported({ method, params }: JSONRPCRequest | JSONRPCNotification): RequestId | undefined {
    if (method !== 'notifications/progress') return undefined
    for (const [id, exchange] of this.#exchanges) {
      const meta = exchange.request(id)?.params?._meta
      if (isObject(meta) && meta.progressToken === params?.progressToken) return id
    }
    return undefined
  }

  #release(id: RequestId): void {
    this.#exchanges.delete(id)
    this.#silences.forget(id)
  }

  #abandon(id: RequestId): void {
    this.#release(id)
    this.#abandoned.add(id)
    const [oldest] = this.#abandoned
    if (oldest !== undefined && this.#abandoned.size > MAX_ABANDONED) this.#abandoned.delete(oldest)
  }
}
