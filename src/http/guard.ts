/** Origin and Host checks against DNS rebinding (specification, basic/transports, "Security Warning"). */
import type { HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'

export interface GuardOptions {
  /**
   * Origins a browser may call from, e.g. `https://app.example.com`, or host names for any scheme and port.
   * Requests without an `Origin` header (not from a browser) always pass. Default: not checked.
   */
  allowedOrigins?: readonly string[]
  /** Host names, with or without port, that requests may be addressed to. Default: not checked. */
  allowedHosts?: readonly string[]
}

/** Names under which a server bound to loopback is addressed. */
export const LOOPBACK_NAMES: readonly string[] = ['localhost', '127.0.0.1', '[::1]']

/** A check that throws a {@link Refusal}; undefined when there is nothing to check. */
export function guard(options: GuardOptions): ((request: HttpRequest) => void) | undefined {
  const { allowedOrigins, allowedHosts } = options
  if (allowedOrigins === undefined && allowedHosts === undefined) return undefined
  const origins = allowedOrigins && new Set(allowedOrigins.map((origin) => origin.toLowerCase()))
  const hosts = allowedHosts && new Set(allowedHosts.map((host) => host.toLowerCase()))
  return (request) => {
    if (hosts) {
      const host = request.header('host')?.toLowerCase()
      if (host === undefined || !(hosts.has(host) || hosts.has(host.replace(/:\d+$/, '')))) throw new Refusal('host')
    }
    const origin = origins && request.header('origin')?.toLowerCase()
    if (origins && origin !== undefined && !origins.has(origin) && !origins.has(hostnameOf(origin))) {
      throw new Refusal('origin')
    }
  }
}

function hostnameOf(origin: string): string {
  try {
    return new URL(origin).hostname
  } catch {
    return ''
  }
}
