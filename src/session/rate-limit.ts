/** How often clients may begin sessions, as the program says. */
import type { HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { contextOf } from './builder.js'
import type { SessionHooks } from './session.js'

/** @throws Refusal if the client should wait before it begins a session. */
export async function checkRate(hooks: SessionHooks, request: HttpRequest): Promise<void> {
  if (!hooks.rateLimit) return
  const wait: unknown = await hooks.rateLimit(contextOf(request))
  if (wait === undefined || wait === null) return
  if (typeof wait !== 'number' || !Number.isFinite(wait)) {
    throw new TypeError(`rateLimit must return milliseconds, or undefined, not ${String(wait)}`)
  }
  if (wait <= 0) return
  // RFC 9110, section 10.2.3: whole seconds.
  throw new Refusal('rateLimited', { retryAfter: Math.ceil(wait / 1000) })
}
