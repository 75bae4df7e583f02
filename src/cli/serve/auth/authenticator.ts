/** Who is calling: a request's credential, what is made of it, and the answer to a request that is not let in. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AuthInfo } from '../../../wire/sdk.js'
import { ApiKeys } from './api-keys.js'
import { Denied, type Reason } from './denied.js'
import { Issuer } from './issuer.js'
import type { AuthOptions } from './options.js'
import { type ProtectedResource, protectedResource } from './protected-resource.js'

export interface Authenticator {
  /** @throws Denied for a request that is not to be served. */
  authenticate(request: IncomingMessage): Promise<AuthInfo>
  /** Answers a request that `authenticate` rejected. */
  deny(response: ServerResponse, error: unknown): void
  /** What clients read to learn where tokens come from; undefined: there are API keys only. */
  readonly resource: ProtectedResource | undefined
}

/** How long a client should wait when the issuer cannot be asked, in seconds. */
const RETRY_AFTER = '5'

const UNKNOWN = new Denied('unavailable', 'Who is calling cannot be found out, try again')

/** Statuses and JSON-RPC codes, as the wire table of docs/contract.md has them for what is alike. */
const ANSWERS: Record<Reason, readonly [status: number, code: number]> = {
  missing: [401, -32000],
  invalid_token: [401, -32000],
  insufficient_scope: [403, -32000],
  unavailable: [503, -32603],
}

/**
 * The authenticator that the options ask for; undefined: they ask for none.
 *
 * @param endpoint URL of the endpoint, as far as this process knows it. Asked for when it listens.
 */
export function authenticator(
  { keys, oauth }: AuthOptions,
  endpoint: () => string,
  onerror: (error: Error) => void,
): Authenticator | undefined {
  if (keys.length === 0 && oauth === undefined) return undefined
  const known = new ApiKeys(keys)
  const resource = oauth && protectedResource(oauth, endpoint)
  const issuer = oauth && resource && new Issuer({ ...oauth, audiences: () => resource.audiences, onerror })

  return {
    resource,

    async authenticate({ headers }) {
      const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1]
      const apiKey = headers['x-api-key']
      const credential = bearer ?? (typeof apiKey === 'string' ? apiKey : undefined)
      if (credential === undefined) throw new Denied('missing', 'Unauthorized: a bearer token is required')
      const ofKey = known.find(credential)
      if (ofKey) return ofKey
      if (!issuer || bearer === undefined) throw new Denied('invalid_token', 'Unauthorized: the key is not known')
      return issuer.verify(bearer)
    },

    deny(response, error) {
      const { reason, message } = error instanceof Denied ? error : UNKNOWN
      const [status, code] = ANSWERS[reason]
      response.writeHead(status, {
        'content-type': 'application/json',
        'cache-control': 'no-store',
        ...(reason === 'unavailable'
          ? { 'retry-after': RETRY_AFTER }
          : { 'www-authenticate': challenge(reason, message, resource?.metadataUrl, oauth?.scopes ?? []) }),
      })
      response.end(JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null }))
    },
  }
}

/** RFC 6750, section 3; RFC 9728, section 5.1; `scope` as 2025-11-25, basic/authorization, has it. */
function challenge(
  reason: Reason,
  message: string,
  metadataUrl: string | undefined,
  scopes: readonly string[],
): string {
  const parameters = {
    ...(reason !== 'missing' && { error: reason, error_description: message }),
    ...(scopes.length > 0 && { scope: scopes.join(' ') }),
    ...(metadataUrl !== undefined && { resource_metadata: metadataUrl }),
  }
  const text = Object.entries(parameters).map(([name, value]) => `${name}="${value}"`)
  return text.length === 0 ? 'Bearer' : `Bearer ${text.join(', ')}`
}
