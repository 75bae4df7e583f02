/** What the endpoint says of itself as a resource that tokens are for (RFC 9728). */
import type { OAuthOptions } from './options.js'

const WELL_KNOWN = '/.well-known/oauth-protected-resource'

export interface ProtectedResource {
  /** Values of `aud`, one of which a token must have. */
  readonly audiences: string[]
  /** Where clients find the document. */
  readonly metadataUrl: string
  /** Whether a path of this server leads to the document. */
  isAt(path: string): boolean
  readonly document: object
}

/** @param endpoint URL of the endpoint, for want of `resource`. */
export function protectedResource(
  { issuer, resource, audience, scopes }: OAuthOptions,
  endpoint: () => string,
): ProtectedResource {
  const url = () => resource ?? endpoint()
  return {
    get audiences() {
      // Clients send it as a parsed URL has it, with a slash after a mere host.
      return audience === undefined ? [...new Set([url(), new URL(url()).href])] : [audience]
    },
    get metadataUrl() {
      const { origin, pathname } = new URL(url())
      return `${origin}${wellKnownFor(pathname)}`
    },
    isAt(path) {
      // A proxy may hand on what is asked of the public URL, or cut off what it adds to the path.
      return [WELL_KNOWN, ...[url(), endpoint()].map((each) => wellKnownFor(new URL(each).pathname))].includes(path)
    },
    get document() {
      return {
        resource: url(),
        authorization_servers: [issuer],
        bearer_methods_supported: ['header'],
        ...(scopes.length > 0 && { scopes_supported: scopes }),
      }
    },
  }
}

/** RFC 9728, section 3.1: the path goes behind it, and a slash alone is none. */
function wellKnownFor(pathname: string): string {
  return pathname === '/' ? WELL_KNOWN : `${WELL_KNOWN}${pathname}`
}
