/** What handlers are told of the HTTP request that a message came in. Made for each message, read by few. */
import type { HttpRequest } from '../wire/message.js'
import type { MessageExtra } from '../wire/sdk.js'
import type { Exchange } from './exchange.js'
import type { LiveSession } from './live.js'

export class Received implements MessageExtra {
  readonly #request: HttpRequest
  readonly #live: LiveSession | undefined
  readonly #exchange: Exchange | undefined
  #lazy: Request | undefined

  /** Of a message that is a request: the session and the exchange that it is part of. */
  constructor(request: HttpRequest, live?: LiveSession, exchange?: Exchange) {
    this.#request = request
    this.#live = live
    this.#exchange = exchange
  }

  get authInfo(): NonNullable<MessageExtra['authInfo']> {
    // undefined without verified auth, as in the SDKs, whose types say that the property may be missing
    return this.#request.authInfo as NonNullable<MessageExtra['authInfo']>
  }

  get requestInfo(): NonNullable<MessageExtra['requestInfo']> {
    return this.#request.requestInfo
  }

  get request(): Request {
    this.#lazy ??= this.#request.request
    return this.#lazy
  }

  /** Only for a client that can come back for what it has not yet received. */
  get closeSSEStream(): () => void {
    const exchange = this.#live?.owner.priming ? this.#exchange : undefined
    return (exchange && (() => exchange.disconnect())) as () => void
  }

  get closeStandaloneSSEStream(): () => void {
    const live = this.#live?.owner.priming ? this.#live : undefined
    return (live && (() => live.closeStandaloneSSE())) as () => void
  }
}
