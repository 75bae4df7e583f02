/** Where an issuer has its keys: its metadata (RFC 8414, and OpenID Connect Discovery 1.0). */
import { asError } from '../../../util/error.js'
import { isLocal } from './options.js'

/** How long the issuer may take to say where its keys are, or to give them, in ms. */
export const TIMEOUT = 5_000

/** Bytes that a document of the issuer may have: far more than any has, and little for whoever must keep it. */
const LONGEST = 1024 * 1024

/** The JSON of a response, unless that is too long to be read. */
export async function jsonOf({ url, body }: Response): Promise<unknown> {
  const decoder = new TextDecoder()
  let size = 0
  let text = ''
  for await (const chunk of body ?? []) {
    size += chunk.byteLength
    if (size > LONGEST) throw new Error(`${url}: more than ${LONGEST} bytes`)
    text += decoder.decode(chunk, { stream: true })
  }
  return JSON.parse(text + decoder.decode())
}

/** JSON from a URL; undefined: there is no such document. Rejects if the server cannot be asked. */
async function getJson(url: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(url, { headers: { accept: 'application/json' }, redirect: 'error', signal })
  if (response.status >= 500 || response.status === 429) throw new Error(`status ${response.status}`)
  if (!response.ok) {
    await response.body?.cancel()
    return undefined
  }
  return jsonOf(response)
}

/** The URL of the issuer's keys. Rejects if it cannot be found, with what to do about it. */
export async function keysOf(issuer: string): Promise<URL> {
  const failures: string[] = []
  const signal = AbortSignal.timeout(TIMEOUT)
  for (const url of metadataUrls(issuer)) {
    let document: unknown
    try {
      document = await getJson(url, signal)
    } catch (error) {
      failures.push(`${url}: ${reasonOf(error)}`)
      continue
    }
    if (typeof document !== 'object' || document === null || !('jwks_uri' in document)) {
      failures.push(`${url}: ${document === undefined ? 'not found' : 'names no jwks_uri'}`)
      continue
    }
    // RFC 8414, section 3.3: otherwise anybody whose metadata this is could speak for the issuer.
    if (!('issuer' in document) || document.issuer !== issuer) {
      throw new Error(
        `${url} is of the issuer ${'issuer' in document ? document.issuer : '(none)'}: give that as --issuer`,
      )
    }
    const keys = typeof document.jwks_uri === 'string' && URL.canParse(document.jwks_uri) && new URL(document.jwks_uri)
    if (!keys || !(keys.protocol === 'https:' || (isLocal(keys) && isLocal(new URL(issuer))))) {
      throw new Error(`${url}: the jwks_uri is not an https: URL`)
    }
    return keys
  }
  throw new Error(`no metadata of the issuer: ${failures.join('; ')}`)
}

/** In the order of 2025-11-25, basic/authorization, "Authorization Server Metadata Discovery". */
function metadataUrls(issuer: string): string[] {
  const { origin, pathname } = new URL(issuer)
  const path = pathname.replace(/\/$/, '')
  const oauth = `${origin}/.well-known/oauth-authorization-server${path}`
  const openid = `${origin}/.well-known/openid-configuration${path}`
  return path === '' ? [oauth, openid] : [oauth, openid, `${origin}${path}/.well-known/openid-configuration`]
}

/** What `fetch` says of a failure is only that there was one; the reason is inside. */
export function reasonOf(error: unknown): string {
  const { message, cause } = asError(error)
  const inner = cause instanceof AggregateError ? cause.errors[0] : cause
  return inner instanceof Error && inner.message ? inner.message : message
}
