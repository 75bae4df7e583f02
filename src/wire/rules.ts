/** The rules of Streamable HTTP that need nothing but the request (specification, basic/transports). */
import type { HttpRequest } from './message.js'
import { Refusal } from './refusal.js'

/** Revisions with sessions over HTTP, and the older ones that the SDKs still negotiate. */
export const SESSION_PROTOCOL_VERSIONS: readonly string[] = [
  '2025-11-25',
  '2025-06-18',
  '2025-03-26',
  '2024-11-05',
  '2024-10-07',
]

/** JSON-RPC batches came and went with this revision (2025-06-18, changelog). */
export const BATCH_PROTOCOL_VERSION = '2025-03-26'

/** From this revision on a client can read an event without data (2025-11-25, basic/transports, "Sending Messages"). */
export const PRIMING_PROTOCOL_VERSION = '2025-11-25'

/** What the SDKs' clients send. */
const USUAL_ACCEPT = 'application/json, text/event-stream'

const JSON_TYPE = /^\s*application\/json\s*(;|$)/i

export function checkPost(request: HttpRequest): void {
  const accept = request.header('accept')
  if (!accepts(accept, 'application/json') || !accepts(accept, 'text/event-stream')) throw new Refusal('acceptPost')
  const type = request.header('content-type')
  if (type !== 'application/json' && !JSON_TYPE.test(type ?? '')) throw new Refusal('contentType')
}

export function checkGet(request: HttpRequest): void {
  if (!accepts(request.header('accept'), 'text/event-stream')) throw new Refusal('acceptGet')
}

export function checkProtocolVersion(request: HttpRequest, supported: readonly string[]): void {
  const version = request.header('mcp-protocol-version')
  if (version !== undefined && !supported.includes(version)) throw new Refusal('protocolVersion')
}

function accepts(header: string | undefined, type: string): boolean {
  if (header === undefined) return false
  if (header === USUAL_ACCEPT) return true
  const group = `${type.slice(0, type.indexOf('/'))}/*`
  // the most specific range that matches decides, by whether it is refused with q=0 (RFC 9110, section 12.5.1)
  const weights = new Map(
    header.split(',').map((part) => {
      const [range = '', ...parameters] = part.toLowerCase().split(';')
      const refused = parameters.some((parameter) => /^\s*q\s*=\s*0(\.0*)?\s*$/.test(parameter))
      return [range.trim(), !refused]
    }),
  )
  return weights.get(type) ?? weights.get(group) ?? weights.get('*/*') ?? false
}

/** A session id is visible ASCII (2025-03-26, basic/transports, "Session Management"); anything else is no session's. */
export function isSessionId(id: string): boolean {
  return id.length <= 256 && /^[\x21-\x7e]+$/.test(id)
}
