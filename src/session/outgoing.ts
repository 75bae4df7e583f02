/** What a server sends besides responses: on the stream of the request that it belongs to, else on the standalone stream. */
import type { Writers } from '../stream/writers.js'
import {
  isRequest,
  isResponse,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type RequestId,
} from '../wire/jsonrpc.js'
import { ClientRequests } from './client-requests.js'
import type { OpeningQuestions } from './opening-questions.js'
import type { RunningRequests } from './running-requests.js'

export class Outgoing {
  readonly #requests: ClientRequests
  /** What is for the standalone stream of a session that cannot be used yet. */
  #held: string[] | undefined = []

  constructor(
    private readonly session: string,
    node: string,
    private readonly running: RunningRequests,
    private readonly writers: Writers,
    private readonly opening: OpeningQuestions,
    private readonly maxMessage: number,
  ) {
    this.#requests = new ClientRequests(node)
  }

  /** Whether the server waits for its client to answer something. */
  get waiting(): boolean {
    return this.#requests.size > 0 || this.opening.busy
  }

  /** Whether the client owes an answer to something that it was asked on behalf of one of its requests. */
  asksFor(related: RequestId): boolean {
    return this.#requests.asksFor(related)
  }

  /**
   * Resolves when the server may send more; undefined: at once.
   *
   * @throws Error if the message is too long.
   */
  send(message: JSONRPCRequest | JSONRPCNotification, related: RequestId | undefined): Promise<void> | undefined {
    if (related === undefined ? this.opening.takes(message) : this.running.drops(message, related)) return undefined
    return this.put(message, related)
  }

  /** Sends it, whatever it is. @throws Error if it is too long. */
  put(message: JSONRPCRequest | JSONRPCNotification, related?: RequestId): Promise<void> | undefined {
    const outgoing = this.#requests.rewritten(message)
    const text = JSON.stringify(outgoing)
    if (text.length > this.maxMessage) {
      throw new Error(`a message of ${text.length} characters was not sent: ${this.maxMessage} are allowed`)
    }
    if (isRequest(message) && isRequest(outgoing)) this.#requests.await(message, outgoing, related)
    const exchange = related === undefined ? undefined : this.running.get(related)
    if (exchange?.send(outgoing, text)) return exchange.room()
    if (!this.#held) return this.writers.send(this.session, text)
    this.#held.push(text)
    return undefined
  }

  /** The session can be used from now on. */
  publish(): void {
    for (const text of this.#held ?? []) void this.writers.send(this.session, text)
    this.#held = undefined
  }

  /** Whether a client's message is a response that the server has got already. */
  isRepeated(message: JSONRPCMessage): boolean {
    return isResponse(message) && this.#requests.isRepeated(message)
  }

  /** A client's response, or progress, as the server knows it; undefined: it is not to a request of this instance. */
  incoming(message: JSONRPCMessage): JSONRPCMessage | undefined {
    if (isResponse(message)) {
      const asked = this.#requests.answered(message)
      if (asked?.related !== undefined) this.running.listenTo(asked.related)
      return asked && { ...message, id: asked.id }
    }
    const { params } = message
    const progressToken = this.#requests.progressToken(params?.progressToken)
    return progressToken === undefined ? undefined : { ...message, params: { ...params, progressToken } }
  }
}
