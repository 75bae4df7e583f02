/** Access tokens of an OAuth issuer: JWTs that its keys have signed, for this endpoint (RFC 9068; RFC 8707). */
import type { errors, JWTPayload, JWTVerifyGetKey } from 'jose'
import { isObject } from '../../../wire/jsonrpc.js'
import type { AuthInfo } from '../../../wire/sdk.js'
import { Denied } from './denied.js'
import { jsonOf, keysOf, reasonOf, TIMEOUT } from './discovery.js'
import type { OAuthOptions } from './options.js'

/** Signatures by a private key. Never `none`, nor HS256 and its kind, whose secret a public key could be taken for. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']

/** How far the clocks of the issuer and of this machine may be apart, in seconds. */
const LEEWAY = 30

/**
 * How long nothing is asked of the issuer after it was asked for its keys, or could not be asked, in ms: tokens cost nothing to
 * make up, and each may name a key that is not known. A key that the issuer has made in between is known this much later.
 */
const PAUSE = 5_000

export interface IssuerOptions extends Pick<OAuthOptions, 'issuer' | 'scopes'> {
  /** Values of `aud`, one of which a token must have. */
  audiences(): string[]
  /** Told why the issuer cannot be asked, each time that it was tried. */
  onerror(error: Error): void
}

export class Issuer {
  readonly #options: IssuerOptions
  #keys: Promise<JWTVerifyGetKey> | undefined
  /** Until when the issuer is left alone after a failure, in ms since the epoch. */
  #quietUntil = 0

  /** Nothing is asked of the issuer before the first token comes. */
  constructor(options: IssuerOptions) {
    this.#options = options
  }

  /** @throws Denied */
  async verify(token: string): Promise<AuthInfo> {
    const { issuer, scopes: required } = this.#options
    const { jwtVerify } = await import('jose')
    const keys = await this.#discovered()
    let payload: JWTPayload
    try {
      const verified = await jwtVerify(token, keys, {
        issuer,
        audience: this.#options.audiences(),
        algorithms: ALGORITHMS,
        clockTolerance: LEEWAY,
        requiredClaims: ['exp', 'sub'],
      })
      payload = verified.payload
    } catch (error) {
      if (error instanceof Denied) throw error
      throw new Denied('invalid_token', `Unauthorized: ${faultOf(error)}`, { cause: error })
    }
    if (typeof payload.sub !== 'string' || payload.sub === '') {
      throw new Denied('invalid_token', 'Unauthorized: the sub claim of the token is missing or wrong')
    }
    const scopes = scopesOf(payload)
    if (!required.every((scope) => scopes.includes(scope))) {
      throw new Denied('insufficient_scope', 'Forbidden: the token lacks a scope')
    }
    return {
      token,
      clientId: clientOf(payload),
      scopes,
      extra: { sub: payload.sub },
      ...(payload.exp !== undefined && { expiresAt: payload.exp }),
    }
  }

  #discovered(): Promise<JWTVerifyGetKey> {
    this.#keys ??= this.#discover().catch((error: unknown) => {
      this.#keys = undefined
      throw error
    })
    return this.#keys
  }

  async #discover(): Promise<JWTVerifyGetKey> {
    const { createRemoteJWKSet, customFetch, errors } = await import('jose')
    const url = await this.#asked(() => keysOf(this.#options.issuer))
    const remote = createRemoteJWKSet(url, {
      cooldownDuration: PAUSE,
      timeoutDuration: TIMEOUT,
      // Through here, because the library itself would ask again at once after a failure.
      [customFetch]: (href: string, init: RequestInit) =>
        this.#asked(async () => {
          const response = await fetch(href, init)
          if (response.status !== 200) throw new Error(`${url}: status ${response.status}`)
          const keys = await jsonOf(response)
          // Here, or nobody would be told of it, and the issuer be asked again for each token.
          if (!isObject(keys) || !Array.isArray(keys.keys) || !keys.keys.every(isObject)) {
            throw new Error(`${url}: what is there are no keys (JWKS)`)
          }
          return Response.json(keys)
        }),
    })
    return async (header, jws) => {
      try {
        return await remote(header, jws)
      } catch (error) {
        const ofToken = [errors.JWKSNoMatchingKey, errors.JWKSMultipleMatchingKeys, errors.JOSENotSupported]
        if (error instanceof Denied || ofToken.some((each) => error instanceof each)) throw error
        throw unavailable(error)
      }
    }
  }

  /** Asks the issuer, unless it has just failed. */
  async #asked<T>(ask: () => Promise<T>): Promise<T> {
    if (Date.now() < this.#quietUntil) throw unavailable()
    try {
      return await ask()
    } catch (error) {
      this.#quietUntil = Date.now() + PAUSE
      this.#options.onerror(new Error(`tokens cannot be checked: ${reasonOf(error)}`, { cause: error }))
      throw unavailable(error)
    }
  }
}

function unavailable(cause?: unknown): Denied {
  return new Denied('unavailable', 'The issuer of tokens is unavailable, try again', { cause })
}

/** What is wrong with a token, in words that quote nothing of it. */
function faultOf(error: unknown): string {
  const { code, claim } = error as Partial<errors.JWTClaimValidationFailed>
  if (code === 'ERR_JWT_EXPIRED') return 'the token has expired'
  if (code !== 'ERR_JWT_CLAIM_VALIDATION_FAILED') return 'the token is not valid'
  const name = ['iss', 'aud', 'sub', 'exp', 'nbf', 'iat'].find((known) => known === claim)
  return name === undefined ? 'the token is not valid' : `the ${name} claim of the token is missing or wrong`
}

/** The client that the token was issued to: RFC 9068, section 2.2; OpenID Connect Core 1.0, section 2. */
function clientOf({ client_id, azp }: JWTPayload): string {
  const client = client_id ?? azp
  return typeof client === 'string' ? client : ''
}

/** RFC 9068, section 2.2.3, and `scp`, a text or a list, as some issuers have it. */
function scopesOf({ scope, scp }: JWTPayload): string[] {
  const given = scope ?? scp
  if (Array.isArray(given)) return given.filter((each) => typeof each === 'string')
  return typeof given === 'string' ? given.split(' ').filter(Boolean) : []
}
