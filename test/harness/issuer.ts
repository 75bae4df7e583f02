/** An OAuth issuer on loopback: metadata, keys that change, tokens of every kind, and a log of what it was asked. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type CryptoKey,
  exportJWK,
  exportSPKI,
  type GenerateKeyPairResult,
  generateKeyPair,
  type JWTPayload,
  SignJWT,
} from 'jose'

const KEYS = '/keys'

export interface IssuerOptions {
  /** Path of the issuer's URL. */
  path?: string
  /** Which documents it has. */
  metadata?: 'oauth' | 'openid' | 'openid-appended'
}

export class TestIssuer {
  /** What tokens name in `iss`. */
  url = ''
  /** Paths of all requests. */
  readonly asked: string[] = []
  /** What the token endpoint was sent. */
  readonly grants: URLSearchParams[] = []
  /** Answers with this status instead. */
  failing: number | undefined
  /** Says this in place of its keys. */
  saysOfKeys: object | undefined
  readonly #options: Required<IssuerOptions>
  readonly #server = createServer((req, res) => {
    void this.#answer(req).then(
      ([status, body]) => res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body)),
      (error) => res.writeHead(500).end(String(error)),
    )
  })
  #keys: { kid: string; pair: GenerateKeyPairResult }[] = []
  #made = 0

  constructor({ path = '', metadata = 'oauth' }: IssuerOptions = {}) {
    this.#options = { path, metadata }
  }

  /** Resolves when it serves; on the port of before, if there was one. */
  async start(): Promise<void> {
    if (this.#keys.length === 0) await this.rotate()
    this.#server.listen(this.url === '' ? 0 : Number(new URL(this.url).port), '127.0.0.1')
    await once(this.#server, 'listening')
    const { port } = this.#server.address() as AddressInfo
    this.url = `http://127.0.0.1:${port}${this.#options.path}`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    if (!this.#server.listening) return
    this.#server.close()
    await once(this.#server, 'close')
  }

  /** Signs with a new key from now on, and takes back those of before. */
  async rotate(): Promise<void> {
    const pair = await generateKeyPair('ES256', { extractable: true })
    this.#keys = [{ kid: `key-${++this.#made}`, pair }]
  }

  get #key() {
    const key = this.#keys.at(-1)
    if (!key) throw new Error('there is no key yet')
    return key
  }

  /** The public key in PEM, as an attacker has it. */
  publicKey(): Promise<string> {
    return exportSPKI(this.#key.pair.publicKey)
  }

  get kid(): string {
    return this.#key.kid
  }

  /** A token that is good for an hour; a claim of `undefined` is left out. */
  token(
    claims: { [Claim in keyof JWTPayload]: JWTPayload[Claim] | undefined },
    { kid = this.#key.kid, sign = this.#key.pair.privateKey as CryptoKey | Uint8Array, alg = 'ES256' } = {},
  ) {
    const now = Math.floor(Date.now() / 1000)
    const payload = { iss: this.url, client_id: 'app', iat: now, exp: now + 3600, ...claims }
    return new SignJWT(payload as JWTPayload).setProtectedHeader({ alg, kid }).sign(sign)
  }

  count(path: string): number {
    return this.asked.filter((asked) => asked === path).length
  }

  /** Requests for the keys. */
  get keyRequests(): number {
    return this.count(KEYS)
  }

  async #answer(req: IncomingMessage): Promise<[number, object]> {
    const { pathname, origin } = new URL(req.url ?? '/', this.url)
    this.asked.push(pathname)
    if (this.failing !== undefined) return [this.failing, { error: 'failing' }]
    if (pathname === KEYS) {
      if (this.saysOfKeys) return [200, this.saysOfKeys]
      const keys = await Promise.all(
        this.#keys.map(async ({ kid, pair }) => ({
          ...(await exportJWK(pair.publicKey)),
          kid,
          alg: 'ES256',
          use: 'sig',
        })),
      )
      return [200, { keys }]
    }
    if (pathname === '/token') return [200, await this.#grant(req)]
    const { metadata } = this.#options
    const path = this.#options.path.replace(/\/$/, '')
    const where = {
      oauth: `/.well-known/oauth-authorization-server${path}`,
      openid: `/.well-known/openid-configuration${path}`,
      'openid-appended': `${path}/.well-known/openid-configuration`,
    }
    if (pathname !== where[metadata]) return [404, { error: 'not found' }]
    return [
      200,
      {
        issuer: this.url,
        jwks_uri: `${origin}${KEYS}`,
        token_endpoint: `${origin}/token`,
        authorization_endpoint: `${origin}/authorize`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256'],
        grant_types_supported: ['client_credentials'],
        code_challenge_methods_supported: ['S256'],
        token_endpoint_auth_methods_supported: ['client_secret_basic'],
      },
    ]
  }

  /** RFC 6749, section 4.4, with the resource of RFC 8707: whatever client it is gets a token for what it asks. */
  async #grant(req: IncomingMessage): Promise<object> {
    let body = ''
    for await (const chunk of req.setEncoding('utf8')) body += chunk
    const grant = new URLSearchParams(body)
    this.grants.push(grant)
    const basic = Buffer.from(req.headers.authorization?.replace('Basic ', '') ?? '', 'base64').toString()
    const client = basic.split(':')[0] ?? ''
    const claims = { sub: client, client_id: client, aud: grant.get('resource') ?? '', scope: grant.get('scope') ?? '' }
    return { access_token: await this.token(claims), token_type: 'Bearer', expires_in: 3600 }
  }
}

/** A token without a signature. */
export function unsigned(claims: JWTPayload): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part({ alg: 'none' })}.${part(claims)}.`
}
