/** Checks of the Origin and Host headers, against DNS rebinding (2025-11-25, basic/transports, "Security Warning"). */
import type { HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { isLoopbackHost } from './loopback.js'
import type { Notices } from './notices.js'

/** From where a server may be called, and under which names. Case does not matter. */
export interface GuardOptions {
  /**
   * Origins of web pages that may send requests, e.g. `https://app.example.com`, or host names, for any scheme and port.
   * Others are answered 403. Requests without an `Origin` header, as programs other than browsers send them, always pass. An
   * empty list refuses all web pages; `'*'` in the list allows all. Default: on a loopback address those of loopback names;
   * elsewhere not checked.
   *
   * @example
   * allowedOrigins: ['https://app.example.com', 'localhost']
   */
  allowedOrigins?: readonly string[]
  /**
   * Host names that requests may be addressed to: with a port for that port only, without for any. Others are answered 403;
   * `'*'` in the list allows all. Default: on a loopback address the loopback names (`localhost`, names under it, `127.x.y.z`,
   * `[::1]`); elsewhere not checked. Behind a proxy on the same machine that passes on the name that clients use, that name.
   * `fetch` cannot see the address that a request came in on, and takes the URL's host for it: there, a server on a loopback
   * address has to name its hosts.
   *
   * @example
   * allowedHosts: ['mcp.example.com', 'localhost:3000']
   */
  allowedHosts?: readonly string[]
}

export interface GuardSettings extends GuardOptions {
  /**
   * Whether requests may be addressed to any IP address, too, or to nothing, as health checks are: no page has one of these for a
   * name of its own.
   */
  anyAddress?: boolean
  /** Told of what is refused on a loopback address though no list says so. */
  notices: Notices
}

/** A check of a request, which throws a {@link Refusal}. */
export type Guard = (request: HttpRequest) => void

/** Values of a header whose verdicts are remembered; mostly there are one or two. */
const REMEMBERED = 64

export function guard({ allowedHosts, allowedOrigins, anyAddress = false, notices }: GuardSettings): Guard {
  const hosts = allowedHosts && new Set(allowedHosts.map((host) => host.toLowerCase()))
  const origins = allowedOrigins && new Set(allowedOrigins.map((origin) => origin.toLowerCase()))
  const isKnownHost = remembered((host) => {
    const name = host.replace(/:\d+$/, '')
    if (anyAddress && isAddress(name)) return true
    return hosts ? hosts.has('*') || hosts.has(host) || hosts.has(name) : isLoopbackHost(name)
  })
  const isKnownOrigin = remembered((origin) => {
    const name = hostnameOf(origin)
    return origins ? origins.has('*') || origins.has(origin) || origins.has(name) : isLoopbackHost(name)
  })

  return (request) => {
    const { cameIn } = request
    // A client may leave as soon as it has sent its last word, and be served all the same. No page knows the id of a session.
    const mayBeOfPage = cameIn === 'unknown' && request.header('mcp-session-id') === undefined
    const onLoopback = cameIn === 'loopback' || mayBeOfPage
    if (hosts || onLoopback) {
      const host = request.header('host')
      // HTTP/1.0, as some health checks speak it, has none; browsers always send one.
      if (host === undefined ? !anyAddress : !isKnownHost(host)) {
        // Where a list refuses something, that is what it is for.
        if (!hosts && cameIn === 'loopback') tell(notices, 'Host', host ?? '')
        throw new Refusal('host')
      }
    }
    if (origins || onLoopback) {
      const origin = request.header('origin')
      if (origin !== undefined && !isKnownOrigin(origin)) {
        if (!origins && cameIn === 'loopback') tell(notices, 'Origin', origin)
        throw new Refusal('origin')
      }
    }
  }
}

/** The verdict on a header's value, in lower case, which is looked for once for most requests. */
function remembered(judge: (value: string) => boolean): (value: string) => boolean {
  const verdicts = new Map<string, boolean>()
  return (value) => {
    const known = verdicts.get(value)
    if (known !== undefined) return known
    const verdict = judge(value.toLowerCase())
    if (verdicts.size >= REMEMBERED) verdicts.clear()
    verdicts.set(value, verdict)
    return verdict
  }
}

function tell(notices: Notices, header: 'Host' | 'Origin', value: string): void {
  const name = header === 'Host' ? value.replace(/:\d+$/, '') : value
  const given = JSON.stringify(name.slice(0, 100))
  const [option, flag] = header === 'Host' ? ['allowedHosts', '--allowed-host'] : ['allowedOrigins', '--allowed-origin']
  const message = () =>
    `a request was refused (403): it came in on a loopback address with the ${header} ${given}, as the web page of a ` +
    `stranger may send it (DNS rebinding). If such requests are to be served, for instance behind a proxy on this machine, ` +
    `set ${option}: [${given}] (mcp-roam serve: ${flag}). This is told once for each ${header}.`
  notices.once(header, given, message)
}

function isAddress(name: string): boolean {
  return /^(\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])$/.test(name)
}

function hostnameOf(origin: string): string {
  try {
    return new URL(origin).hostname
  } catch {
    return ''
  }
}
