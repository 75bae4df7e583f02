/** `serve --issuer`: access tokens of an OAuth issuer. */
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Issuer } from '../../src/cli/serve/auth/issuer.js'
import { urlDoor } from '../harness/door.js'
import { type IssuerOptions, TestIssuer, unsigned } from '../harness/issuer.js'
import { SDKS } from '../harness/server.js'
import { WireClient } from '../harness/wire-client.js'
import { runs } from './runs.js'
import { script } from './served.js'

const test = runs()

async function issuer(options?: IssuerOptions): Promise<TestIssuer> {
  const made = new TestIssuer(options)
  await made.start()
  onTestFinished(() => made.stop())
  return made
}

async function serve(at: TestIssuer, flags: string[] = [], port = '0', env = {}) {
  const backend = `sqlite:${join(test.folder, 'sessions.db')}`
  const words = ['serve', '--port', port, '--backend', backend, '--issuer', at.url, ...flags]
  const cli = test.run([...words, '--', ...script('tools')], { env })
  return { cli, url: await cli.ready() }
}

const PING = { jsonrpc: '2.0', id: 1, method: 'ping' }
const as = (url: string, token: string | undefined, sessionId = '') =>
  new WireClient(urlDoor(url), sessionId, undefined, {
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  })
const ping = (url: string, token: string | undefined, sessionId?: string) =>
  as(url, token, sessionId).send({ body: PING })
const json = async (url: string | URL) => (await fetch(url)).json() as Promise<Record<string, unknown>>

describe.each(SDKS)('client %s', (sdk) => {
  it('finds by itself where to get a token, gets one for this endpoint, and has a session with it', async () => {
    const at = await issuer({ path: '/tenant' })
    const { url } = await serve(at, ['--scope', 'mcp:use', '--scope', 'mcp:tools'])
    const credentials = { clientId: 'app', clientSecret: 'secret', expectedIssuer: at.url, scope: 'mcp:use mcp:tools' }
    const client = await test.connect(url, sdk, { credentials })

    expect(await client.call('release')).toBe('released')
    const metadata = new URL('/.well-known/oauth-protected-resource/mcp', url).href
    const [first] = client.wire.answered.all
    expect(first).toMatchObject({ method: 'POST', status: 401 })
    const asked = client.wire.urls.map(String)
    expect(asked).toContain(metadata)
    expect(asked).toContain(new URL('/.well-known/oauth-authorization-server/tenant', at.url).href)
    expect(at.grants.map((grant) => [grant.get('resource'), grant.get('scope')])).toEqual([[url, 'mcp:use mcp:tools']])
    expect(await json(metadata)).toEqual({
      resource: url,
      authorization_servers: [at.url],
      bearer_methods_supported: ['header'],
      scopes_supported: ['mcp:use', 'mcp:tools'],
    })
  })

  it.each([
    ['one process', []],
    ['workers', ['--workers', '2']],
  ])('its session is its own, over a restart and a new token; %s', async (_, workers) => {
    const at = await issuer()
    const { cli, url } = await serve(at, ['--audience', 'roam', ...workers])
    const token = (sub: string, client_id = 'app') => at.token({ sub, client_id, aud: 'roam' })
    const client = await test.connect(url, sdk, { token: await token('alice') })
    const id = client.sessionId() ?? ''
    expect(await client.call('release')).toBe('released')
    await cli.kill()
    await serve(at, ['--audience', 'roam', ...workers], new URL(url).port)
    expect(await client.call('release')).toBe('released')
    expect(client.wire.count('initialize')).toBe(1)
    expect((await ping(url, await token('bob'), id)).status).toBe(404)
    expect((await ping(url, await token('alice', 'another app'), id)).status).toBe(404)
    expect((await ping(url, undefined, id)).status).toBe(401)
    expect((await ping(url, await at.token({ sub: 'alice', aud: ['x', 'roam'], jti: 'new' }), id)).status).toBe(200)
  })
})

it('refuses a token that is not good, and says what is wrong with it; one that is good goes on', async () => {
  const at = await issuer()
  const other = await issuer()
  const { cli, url } = await serve(at)
  const good = { sub: 'alice', aud: url }
  const now = Math.floor(Date.now() / 1000)
  const claims = { ...good, iss: at.url, exp: now + 3600 }
  const refused: Record<string, [token: Promise<string> | string, fault: string]> = {
    expired: [at.token({ ...good, exp: now - 60 }), 'the token has expired'],
    'not yet valid': [at.token({ ...good, nbf: now + 60 }), 'the nbf claim of the token is missing or wrong'],
    'without an end': [at.token({ ...good, exp: undefined }), 'the exp claim of the token is missing or wrong'],
    'for somebody else': [at.token({ ...good, aud: `${url}/other` }), 'the aud claim of the token is missing or wrong'],
    'for nobody': [at.token({ ...good, aud: undefined }), 'the aud claim of the token is missing or wrong'],
    'of another issuer, it says': [
      at.token({ ...good, iss: other.url }),
      'the iss claim of the token is missing or wrong',
    ],
    'without an issuer': [at.token({ ...good, iss: undefined }), 'the iss claim of the token is missing or wrong'],
    'of another issuer': [other.token(claims, { kid: at.kid }), 'the token is not valid'],
    'of another issuer, with its key id': [other.token(claims, { kid: 'its own' }), 'the token is not valid'],
    'without a subject': [at.token({ aud: url }), 'the sub claim of the token is missing or wrong'],
    'with an empty subject': [at.token({ aud: url, sub: '' }), 'the sub claim of the token is missing or wrong'],
    'without a signature': [unsigned(claims), 'the token is not valid'],
    'with the public key as a secret': [
      at.token(good, { alg: 'HS256', sign: Buffer.from(await at.publicKey()) }),
      'the token is not valid',
    ],
    'changed on the way': [
      at.token(good).then((token) => token.replace(/\.[^.]+\./, '.e30.')),
      'the token is not valid',
    ],
    'no JWT at all': ['an-opaque-token', 'the token is not valid'],
  }
  const metadata = new URL('/.well-known/oauth-protected-resource/mcp', url).href
  for (const [what, [token, fault]] of Object.entries(refused)) {
    const { status, headers, body } = await ping(url, await token)
    expect(status, what).toBe(401)
    expect(headers['www-authenticate'], what).toBe(
      `Bearer error="invalid_token", error_description="Unauthorized: ${fault}", resource_metadata="${metadata}"`,
    )
    expect(body, what).toEqual({ jsonrpc: '2.0', error: { code: -32000, message: `Unauthorized: ${fault}` }, id: null })
    expect(cli.log, what).not.toContain(await token)
  }
  expect((await ping(url, undefined)).headers['www-authenticate']).toBe(`Bearer resource_metadata="${metadata}"`)
  // No token is at fault for clocks that differ a little.
  for (const more of [{}, { exp: now - 10 }, { nbf: now + 10 }]) {
    const session = await test.connect(url, 'v2', { token: await at.token({ ...good, ...more }) })
    expect(await session.call('release')).toBe('released')
    expect(await session.call('env')).not.toContain(await at.token(good))
  }
  expect(cli.log).not.toMatch(/eyJ/)
})

it('needs each scope that is asked for, whichever way the token names it', async () => {
  const at = await issuer()
  const { url } = await serve(at, ['--scope', 'read', '--scope', 'write'])
  const sent = async (claims: object) => ping(url, await at.token({ sub: 'alice', aud: url, ...claims }))
  const denied = await sent({ scope: 'read' })
  expect(denied).toMatchObject({
    status: 403,
    body: { error: { code: -32000, message: 'Forbidden: the token lacks a scope' } },
  })
  expect(denied.headers['www-authenticate']).toMatch(
    /^Bearer error="insufficient_scope", .*, scope="read write", resource_metadata="/,
  )
  for (const claims of [{}, { scope: 'readwrite' }, { scp: ['read'] }]) expect((await sent(claims)).status).toBe(403)
  // Past the door: 400, for it has no session.
  for (const claims of [{ scope: 'x write read' }, { scp: ['read', 'write'] }, { scp: 'write read' }]) {
    expect((await sent(claims)).status).toBe(400)
  }
})

it('takes API keys, too, for others than have tokens', async () => {
  const at = await issuer()
  const { url } = await serve(at, ['--scope', 'mcp'], '0', {
    MCP_ROAM_API_KEY: 'alice:a-key-of-32-characters-for-alice',
  })
  const client = await test.connect(url, 'v1', { token: 'a-key-of-32-characters-for-alice' })
  // Whoever can choose the names of clients at the issuer is not her for that.
  const token = await at.token({ sub: 'x', client_id: 'key:alice', aud: url, scope: 'mcp' })
  expect((await ping(url, token, client.sessionId())).status).toBe(404)
  expect(
    (await new WireClient(urlDoor(url), '', undefined, { headers: { 'x-api-key': token } }).send({ body: PING }))
      .status,
  ).toBe(401)
})

describe('behind a proxy', () => {
  it('is the resource that clients know, wherever it listens', async () => {
    const at = await issuer()
    const resource = 'https://mcp.example.com/tools/mcp'
    const { url } = await serve(at, ['--resource', resource, '--host', '0.0.0.0'])
    const { origin } = new URL(url.replace('0.0.0.0', '127.0.0.1'))
    const known = 'https://mcp.example.com/.well-known/oauth-protected-resource/tools/mcp'
    const answer = await ping(`${origin}/mcp`, undefined)
    expect(answer.headers['www-authenticate']).toBe(`Bearer resource_metadata="${known}"`)
    for (const path of ['', '/mcp', '/tools/mcp']) {
      expect(await json(`${origin}/.well-known/oauth-protected-resource${path}`)).toMatchObject({ resource })
    }
    expect((await fetch(`${origin}/.well-known/oauth-protected-resource/other`)).status).toBe(404)
    expect((await ping(`${origin}/mcp`, await at.token({ sub: 'alice', aud: resource }))).status).toBe(400)
    expect((await ping(`${origin}/mcp`, await at.token({ sub: 'alice', aud: `${origin}/mcp` }))).status).toBe(401)
  })

  it('lets web pages of any origin read what it says of itself', async () => {
    const at = await issuer()
    const { url } = await serve(at)
    const known = new URL('/.well-known/oauth-protected-resource', url)
    const headers = { origin: 'https://app.example.com' }
    expect((await fetch(known, { headers })).headers.get('access-control-allow-origin')).toBe('*')
    const before = await fetch(known, { method: 'OPTIONS', headers })
    expect(before).toMatchObject({ status: 204 })
    expect(before.headers.get('access-control-allow-headers')).toBe('*')
    expect((await fetch(known, { method: 'POST' })).status).toBe(405)
  })
})

it.each<IssuerOptions>([
  {},
  { path: '/a/b' },
  { metadata: 'openid' },
  { metadata: 'openid', path: '/a' },
  { metadata: 'openid-appended', path: '/a/b' },
  { metadata: 'openid-appended', path: '/realm/' },
])('finds the keys of an issuer with %j', async (options) => {
  const at = await issuer(options)
  const known = new Issuer({ issuer: at.url, scopes: [], audiences: () => ['me'], onerror: () => {} })
  expect(await known.verify(await at.token({ sub: 'alice', aud: 'me', azp: 'b' }))).toMatchObject({
    clientId: 'app',
    extra: { sub: 'alice' },
  })
})

describe('an issuer that is away', () => {
  const quick = (at: TestIssuer, errors: Error[] = []) =>
    new Issuer({ issuer: at.url, scopes: [], audiences: () => ['me'], onerror: (error) => errors.push(error) })
  const reasonOf = (verified: Promise<unknown>) =>
    verified.then(
      () => 'verified',
      ({ reason }) => reason,
    )

  it('does not keep it from starting: requests get 503 until it is back, not 401', async () => {
    const at = await issuer()
    const token = await at.token({ sub: 'alice', aud: 'roam' })
    await at.stop()
    const { cli, url } = await serve(at, ['--audience', 'roam'])
    const answer = await ping(url, token)
    expect(answer).toMatchObject({ status: 503, headers: { 'retry-after': '5' } })
    expect(answer.body).toMatchObject({ error: { code: -32603 } })
    expect(answer.headers).not.toHaveProperty('www-authenticate')
    expect(cli.log).toMatch(/tokens cannot be checked: no metadata of the issuer: .*ECONNREFUSED/)
    await at.start()
    await expect.poll(async () => (await ping(url, token)).status, { timeout: 10_000, interval: 250 }).toBe(400)
  })

  it('is not asked again for each token while it is away, nor told of more than once', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const at = await issuer()
    at.failing = 500
    const errors: Error[] = []
    const known = quick(at, errors)
    const token = await at.token({ sub: 'alice', aud: 'me' })
    const flood = () => Promise.all(Array.from({ length: 50 }, () => reasonOf(known.verify(token))))
    expect(new Set(await flood())).toEqual(new Set(['unavailable']))
    expect(new Set(await flood())).toEqual(new Set(['unavailable']))
    expect(at.asked).toHaveLength(2)
    expect(errors).toHaveLength(1)
    at.failing = undefined
    vi.advanceTimersByTime(5_000)
    expect(new Set(await flood())).toEqual(new Set(['verified']))
    expect(at.keyRequests).toBe(1)
  })

  it.each([
    ['no keys', { error: 'oops' }, /keys: what is there are no keys \(JWKS\)/],
    ['more than anybody reads', { keys: [{ k: 'x'.repeat(1024 * 1024) }] }, /keys: more than 1048576 bytes/],
  ])('or says %s in place of its keys, is left alone for a while, and the operator is told', async (_, says, why) => {
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const at = await issuer()
    at.saysOfKeys = says
    const errors: Error[] = []
    const known = quick(at, errors)
    const token = await at.token({ sub: 'alice', aud: 'me' })
    for (let i = 0; i < 50; i++) expect(await reasonOf(known.verify(token))).toBe('unavailable')
    expect(at.keyRequests).toBe(1)
    expect(errors.map(({ message }) => message)).toEqual([expect.stringMatching(why)])
    at.saysOfKeys = undefined
    vi.advanceTimersByTime(5_000)
    expect(await reasonOf(known.verify(token))).toBe('verified')
  })

  it('is no longer needed once its keys are known', async () => {
    const at = await issuer()
    const known = quick(at)
    const token = await at.token({ sub: 'alice', aud: 'me' })
    await known.verify(token)
    await at.stop()
    expect(await reasonOf(known.verify(token))).toBe('verified')
  })

  it('that names other keys than its own, or says that it is another one, is none', async () => {
    const at = await issuer()
    const errors: Error[] = []
    const slash = new Issuer({
      issuer: `${at.url}/`,
      scopes: [],
      audiences: () => ['me'],
      onerror: (e) => errors.push(e),
    })
    expect(await reasonOf(slash.verify(await at.token({ sub: 'alice', aud: 'me' })))).toBe('unavailable')
    expect(errors[0]?.message).toContain(`is of the issuer ${at.url}: give that as --issuer`)
    expect(at.keyRequests).toBe(0)
  })
})

describe('keys that change', () => {
  it('are taken over while it serves, and those that were taken back are no longer good', async () => {
    const at = await issuer()
    const { url } = await serve(at, ['--audience', 'roam'])
    const before = await at.token({ sub: 'alice', aud: 'roam' })
    const client = await test.connect(url, 'v1', { token: before })
    await at.rotate()
    const after = await at.token({ sub: 'alice', aud: 'roam' })
    const status = async (token: string) => (await ping(url, token, client.sessionId())).status
    await expect.poll(() => status(after), { timeout: 10_000, interval: 250 }).toBe(200)
    expect(await status(before)).toBe(401)
  })

  it('a flood of tokens with keys that nobody knows makes few requests of the issuer', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const at = await issuer()
    const known = new Issuer({ issuer: at.url, scopes: [], audiences: () => ['me'], onerror: () => {} })
    const claims = { sub: 'alice', aud: 'me' }
    const flood = async () => {
      for (let i = 0; i < 100; i++) {
        const token = await at.token(claims, { kid: `unknown-${i}` })
        await expect(known.verify(token)).rejects.toMatchObject({ reason: 'invalid_token' })
      }
    }
    await flood()
    expect(at.keyRequests).toBe(1)
    vi.advanceTimersByTime(5_001)
    await flood()
    expect(at.keyRequests).toBe(2)
    // Nor does it while the issuer is away.
    vi.advanceTimersByTime(5_001)
    at.failing = 503
    for (let i = 0; i < 100; i++) {
      const token = await at.token(claims, { kid: `unknown-${i}` })
      await expect(known.verify(token)).rejects.toMatchObject({ reason: 'unavailable' })
    }
    expect(at.keyRequests).toBe(3)
    expect((await known.verify(await at.token(claims))).clientId).toBe('app')
  })
})

it.each([
  [['--audience', 'x'], /--audience is about tokens: give --issuer, too/],
  [['--scope', 'x'], /--scope is about tokens/],
  [['--resource', 'https://x.example'], /--resource is about tokens/],
  [['--issuer', 'http://auth.example.com'], /It must be an https: URL/],
  [['--issuer', 'auth.example.com'], /It must be a URL such as/],
  [['--issuer', 'https://auth.example.com?tenant=1'], /It must be a URL such as/],
  [['--issuer', 'https://a.example', '--issuer', 'https://b.example'], /It can be given once/],
  [['--issuer', 'https://a.example', '--scope', 'a b'], /It must be one scope/],
  [['--issuer', 'https://a.example', '--host', '0.0.0.0'], /say with --resource under which URL clients reach/],
])('%j cannot be meant', async (flags, says) => {
  const ended = await test.ends(['serve', ...flags, '--', ...script('tools')])
  expect(ended).toMatchObject({ code: 2, says: expect.stringMatching(says) })
})
