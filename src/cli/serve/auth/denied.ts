/** A request that is not let in: who is calling is not known, or must not call, or cannot be found out just now. */
export class Denied extends Error {
  override readonly name = 'Denied'

  /** @param message Goes to the client: it must neither quote what the client sent nor contain a `"`. */
  constructor(
    readonly reason: Reason,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}

/** `missing`: nothing was sent that could be checked. The two after it are error codes of RFC 6750, section 3.1. */
export type Reason = 'missing' | 'invalid_token' | 'insufficient_scope' | 'unavailable'
