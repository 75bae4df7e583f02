/** Checks of the Origin and Host headers, against DNS rebinding (2025-11-25, basic/transports, "Security Warning"). */
import type { HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'

/** From where a server may be called, and under which names. Case does not matter. */
export interface GuardOptions {
  /**
   * Origins of web pages that may send requests, e.g. `https://app.example.com`, or host names, for any scheme and port.
   * Others are answered 403. Requests without an `Origin` header, as programs other than browsers send them, always pass. An
   * empty list refuses all web pages. Default: not checked.
   *
   * @example
   * allowedOrigins: ['https://app.example.com', 'localhost']
   */
  allowedOrigins?: readonly string[]
  /**
   * Host names that requests may be addressed to: with a port for that port only, without for any. Others are answered 403.
   * Default: not checked.
   *
   * @example
   * allowedHosts: ['mcp.example.com', 'localhost:3000']
   */
  allowedHosts?: readonly string[]
}

/** Names of a server that listens on a loopback address, for both options. */
export const LOOPBACK_NAMES: readonly string[] = ['localhost', '127.0.0.1', '[::1]']

/** Whether only this machine reaches a server that listens on this address. */
export function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || /^127(\.\d{1,3}){3}$/.test(address)
}

/** A check of a request that throws a {@link Refusal}; undefined: there is nothing to check. */
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
