/** What a client sends to a session that is live here: each message goes to the instance that needs it, wherever that is. */
import { nextTurn } from '../util/next-turn.js'
import {
  isRequest,
  isResponse,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
} from '../wire/jsonrpc.js'
import type { HttpReply, HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import type { Instance } from './instance.js'
import { RequestExtra } from './message-extra.js'
import type { OpeningQuestions } from './opening-questions.js'
import type { Outgoing } from './outgoing.js'
import type { Routing } from './routing.js'
import type { RunningRequests } from './running-requests.js'

export interface IncomingHost {
  /** The session's id. */
  readonly id: string
  readonly instance: Instance
  readonly running: RunningRequests
  readonly outgoing: Outgoing
  readonly opening: OpeningQuestions
  readonly routing: Routing
  /** Stores what a notification changes. */
  journal(message: JSONRPCNotification): Promise<void>
  /** Something that ran on the session has ended. */
  used(): void
}

export class Incoming {
  constructor(private readonly host: IncomingHost) {}

  /** Takes a POST of one request. */
  receiveRequest(message: JSONRPCRequest, request: HttpRequest, reply: HttpReply): void {
    const { running } = this.host
    running.check(message)
    void running.start([message], request, { batch: false, reply })
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
    const { id, instance, running } = this.host
    if (instance.closed) return false
    const requests = messages.filter(isRequest)
    running.checkAll(requests)
    // What can still be refused comes before anything runs whose answer would come after the refusal.
    for (const [index, message] of messages.entries()) {
      if (isRequest(message)) continue
      if (index > 0) await nextTurn()
      if (isResponse(message)) await this.#deliver(message)
      else await this.#receiveNotification(message, request)
    }
    if (requests.length === 0) {
      reply.send(202, { 'mcp-session-id': id })
      this.host.used()
      return true
    }
    if (requests.length < messages.length) await nextTurn()
    if (instance.closed) throw new Refusal('unavailable')
    running.checkAll(requests)
    await running.start(requests, request, { batch, reply })
    return true
  }

  /** A client's response to a request of this instance, or progress of one; false if there is no such request. */
  async deliver(message: JSONRPCMessage): Promise<boolean> {
    const incoming = this.host.outgoing.incoming(message)
    if (!incoming) return this.host.outgoing.isRepeated(message)
    const kept = isResponse(incoming) ? this.host.opening.answered(incoming) : undefined
    this.host.instance.dispatch(incoming)
    if (isResponse(message)) this.host.used()
    await kept
    return true
  }

  /** A response, or progress, is for this instance or another one. */
  async #deliver(message: JSONRPCResponse | JSONRPCNotification): Promise<void> {
    if (!(await this.deliver(message))) await this.host.routing.deliver(this.host.id, message)
  }

  async #receiveNotification(message: JSONRPCNotification, request: HttpRequest): Promise<void> {
    const { id, instance, running, routing } = this.host
    const extra = new RequestExtra(request)
    switch (message.method) {
      case 'notifications/initialized':
        await this.host.journal(message)
        return instance.dispatch(message, extra)
      case 'notifications/cancelled':
        if (!running.cancel(message, extra)) await routing.cancel(id, message)
        return
      case 'notifications/progress':
        return this.#deliver(message)
      default:
        instance.dispatch(message, extra)
        await routing.notify(id, message)
    }
  }
}
