/** What handlers are told of the HTTP request that a message came in. Made for each message, read by few. */
import type { HttpRequest } from '../http/message.js'
import type { MessageExtra } from '../options.js'

export interface StreamCloser {
  closeSSE(): void
  closeStandaloneSSE(): void
}

export class Received implements MessageExtra {
  readonly #request: HttpRequest
  readonly closeSSEStream?: () => void
  readonly closeStandaloneSSEStream?: () => void

  /** `closer` is for requests whose client can come back for what it has not yet received. */
  constructor(request: HttpRequest, closer?: StreamCloser) {
    this.#request = request
    if (!closer) return
    this.closeSSEStream = () => closer.closeSSE()
    this.closeStandaloneSSEStream = () => closer.closeStandaloneSSE()
  }

  get authInfo(): NonNullable<MessageExtra['authInfo']> {
    // undefined without verified auth, as in the SDKs, whose types say that the property may be missing
    return this.#request.authInfo as NonNullable<MessageExtra['authInfo']>
  }

  get requestInfo(): NonNullable<MessageExtra['requestInfo']> {
    return this.#request.requestInfo
  }

  get request(): Request {
    return this.#request.request
  }
}
