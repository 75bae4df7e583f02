/** The rules of Streamable HTTP that need nothing but the request. Sections are of the specification 2025-11-25. */
import type { HttpRequest } from './message.js'
import { Refusal } from './refusal.js'

/** Versions that the header may name: those with sessions over HTTP, and older ones that the SDKs still negotiate. */
export const SESSION_PROTOCOL_VERSIONS: readonly string[] = [
  '2025-11-25',
  '2025-06-18',
  '2025-03-26',
  '2024-11-05',
  '2024-10-07',
]

/** The only protocol version with JSON-RPC batches (2025-03-26, basic, "Batching"; 2025-06-18, changelog). */
export const BATCH_PROTOCOL_VERSION = '2025-03-26'

/** The first version whose clients can read an event without data (basic/transports, "Sending Messages to the Server"). */
export const PRIMING_PROTOCOL_VERSION = '2025-11-25'

/** `@ai-sdk/mcp`, in `User-Agent`. */
const AI_SDK = /(^|\s)ai-sdk\//

/** What the SDKs' clients send; compared first, because parsing takes longer. */
const USUAL_ACCEPT = 'application/json, text/event-stream'

const JSON_TYPE = /^\s*application\/json\s*(;|$)/i

/** The headers that are read. */
const READ = [
  'accept',
  'content-type',
  'mcp-session-id',
  'mcp-protocol-version',
  'last-event-id',
  'user-agent',
  'origin',
  'host',
]

/** RFC 6585, section 5. */
export function checkHeaders(request: HttpRequest, limit: number): void {
  for (const name of READ) {
    const value = request.header(name)
    if (value !== undefined && value.length > limit) throw new Refusal('headerTooLong')
  }
}

/** Accept: basic/transports, "Sending Messages to the Server". Content-Type: RFC 9110, section 8.3. */
export function checkPost(request: HttpRequest): void {
  const accept = request.header('accept')
  if (!accepts(accept, 'application/json') || !accepts(accept, 'text/event-stream')) throw new Refusal('acceptPost')
  const type = request.header('content-type')
  if (type !== 'application/json' && !JSON_TYPE.test(type ?? '')) throw new Refusal('contentType')
}

/** basic/transports, "Listening for Messages from the Server" */
export function checkGet(request: HttpRequest): void {
  if (!accepts(request.header('accept'), 'text/event-stream')) throw new Refusal('acceptGet')
}

/** basic/transports, "Protocol Version Header": a request without it passes, its session's version is known. */
export function checkProtocolVersion(request: HttpRequest, supported: readonly string[]): void {
  const version = request.header('mcp-protocol-version')
  if (version !== undefined && !supported.includes(version)) throw new Refusal('protocolVersion')
}

/**
 * Whether a client comes back for a stream that answers its POST, provided that its session's version has that. The AI SDK
 * names 2025-11-25 and comes back for its GET alone: a call whose stream is left to another node would hang there for good.
 */
export function resumesAnswers(request: HttpRequest): boolean {
  return !AI_SDK.test(request.header('user-agent') ?? '')
}

/** Whether an Accept header accepts a media type: the most specific range that matches decides (RFC 9110, section 12.5.1). */
function accepts(header: string | undefined, type: string): boolean {
  if (header === undefined) return false
  if (header === USUAL_ACCEPT) return true
  const group = `${type.slice(0, type.indexOf('/'))}/*`
  const ranges = new Map(
    header.split(',').map((part) => {
      const [range = '', ...parameters] = part.toLowerCase().split(';')
      // q=0 means: not acceptable.
      const refused = parameters.some((parameter) => /^\s*q\s*=\s*0(\.0*)?\s*$/.test(parameter))
      return [range.trim(), !refused]
    }),
  )
  return ranges.get(type) ?? ranges.get(group) ?? ranges.get('*/*') ?? false
}

/** Visible ASCII (basic/transports, "Session Management"); that it has at most 256 characters is our rule. */
export function isSessionId(id: string): boolean {
  return id.length <= 256 && /^[\x21-\x7e]+$/.test(id)
}
