/** What handlers are told of the HTTP request that a message came in. Made for each message, read by few. */
import type { HttpRequest } from '../wire/message.js'
import type { MessageExtra } from '../wire/sdk.js'
import type { Exchange } from './exchange.js'

/** Its types say that a property may be missing; a getter that gives undefined is what the SDKs take as that. */
export class RequestExtra implements MessageExtra {
  readonly #request: HttpRequest
  readonly #exchange: Exchange | undefined
  #lazy: Request | undefined

  /** @param exchange Of a message that is a request: the exchange that it is part of. */
  constructor(request: HttpRequest, exchange?: Exchange) {
    this.#request = request
    this.#exchange = exchange
  }

  get authInfo(): NonNullable<MessageExtra['authInfo']> {
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
    const exchange = this.#resumable
    return (exchange && (() => exchange.disconnect())) as () => void
  }

  get closeStandaloneSSEStream(): () => void {
    const exchange = this.#resumable
    return (exchange && (() => exchange.disconnectStandalone())) as () => void
  }

  get #resumable(): Exchange | undefined {
    return this.#exchange?.resumable ? this.#exchange : undefined
  }
}
