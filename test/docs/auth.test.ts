/** The programs of docs/hooks-and-auth.md that verify who is calling, with the middleware of both SDK lines, as they stand. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { connectClient, type TestClient } from '../harness/client.js'
import { urlDoor } from '../harness/door.js'
import { TestIssuer } from '../harness/issuer.js'
import { SDKS } from '../harness/server.js'
import { WireClient } from '../harness/wire-client.js'
import { type Block, inLanguage, ROOT } from './blocks.js'
import { freePort, Program } from './programs.js'

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

const page = inLanguage('ts').filter(
  ({ file, code }) => file === 'docs/hooks-and-auth.md' && code.includes('verifier }'),
)
const [servers, importing] = [
  inLanguage('ts').filter(({ code }) => code.startsWith('// server.ts\n')),
  (text: string) => page.filter(({ code }) => code.includes(text)),
]

/** What stands in for "yours", and how the app listens. */
const VERIFIER: Record<'v1' | 'v2', string> = {
  v1: "import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js'\nconst invalid = () => new InvalidTokenError('no')",
  v2: "import { OAuthError, OAuthErrorCode } from '@modelcontextprotocol/server'\nconst invalid = () => new OAuthError(OAuthErrorCode.InvalidToken, 'no')",
}
const verifierFor = (line: 'v1' | 'v2') => `${VERIFIER[line]}
import { createRemoteJWKSet, jwtVerify } from 'jose'
const keys = createRemoteJWKSet(new URL(process.env.ISSUER + '/keys'))
export const verifier = {
  async verifyAccessToken(token: string) {
    const { payload } = await jwtVerify(token, keys, { issuer: process.env.ISSUER, audience: 'me' }).catch(() => {
      throw invalid()
    })
    const { client_id, exp: expiresAt, sub } = payload
    return { token, clientId: String(client_id), scopes: [], expiresAt, extra: { sub } }
  },
}
`
const EXPRESS = "app.listen(Number(process.env.PORT), '127.0.0.1')\n"
const HONO = `import { serve } from '@hono/node-server'
serve({ fetch: app.fetch, port: Number(process.env.PORT), hostname: '127.0.0.1' })
`

const WAYS = [
  ['line 1 on Express', importing("from 'express'"), 'v1', EXPRESS],
  ['line 2 on Express', importing("from '@modelcontextprotocol/express'"), 'v2', EXPRESS],
  ['line 2 on Hono', importing("from 'hono'"), 'v2', HONO],
  ['line 2 on Hono, with an app of its own', importing("from 'hono'").map(ownApp), 'v2', HONO],
] as const

/** What the page says of `createMcpHonoApp`. */
function ownApp(block: Block): Block {
  const code = block.code
    .replace("import { Hono } from 'hono'", "import { createMcpHonoApp } from '@modelcontextprotocol/hono'")
    .replace('new Hono()', 'createMcpHonoApp()')
    .replace('{ authInfo }', "{ authInfo, parsedBody: context.get('parsedBody') }")
  return { ...block, code }
}

describe.each(WAYS)('%s', (_, blocks, line, listening) => {
  it.each(SDKS)(
    'lets in whom the verifier knows, to their own sessions, over a restart too; client %s',
    async (sdk) => {
      expect(blocks).toHaveLength(1)
      const issuer = new TestIssuer()
      await issuer.start()
      ends.push(() => issuer.stop())
      const port = await freePort()
      const url = `http://127.0.0.1:${port}/mcp`
      const program = new Program(['--import', 'tsx', written(blocks[0]?.code ?? '')], [port], {
        PORT: String(port),
        ISSUER: issuer.url,
      })
      ends.push(() => program.end('SIGKILL'))
      await program.start()

      const tokenOf = (sub: string, more = {}) => issuer.token({ sub, aud: 'me', ...more })
      const call = async (sessionId: string, token: string | undefined, method = 'POST') => {
        const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
        const body = { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'hello' } }
        const client = new WireClient(urlDoor(url), sessionId, undefined, { headers })
        return (await client.send(method === 'POST' ? { body } : { method })).status
      }
      const alice = await connected(await connectClient(sdk, url, { token: await tokenOf('alice') }))
      const id = alice.sessionId() ?? ''
      const holds = async () => {
        for (const method of ['POST', 'GET', 'DELETE']) {
          expect(await call(id, await tokenOf('bob'), method), method).toBe(404)
          expect(await call(id, await tokenOf('alice', { client_id: 'another' }), method), method).toBe(404)
          expect(await call(id, undefined, method), method).toBe(401)
          expect(await call(id, await tokenOf('alice', { aud: 'somebody else' }), method), method).toBe(401)
        }
        expect(await call(id, await tokenOf('alice', { jti: 'renewed' }))).toBe(200)
        expect(await alice.call('hello')).toBe('Hello')
      }
      await holds()
      await program.end('SIGKILL')
      await program.start()
      await holds()
      expect(alice.wire.count('initialize')).toBe(1)
      expect(alice.sessionId()).toBe(id)
      await expect(connectClient(sdk, url)).rejects.toThrow(/401|Unauthorized|invalid_token/)
    },
  )

  /** The block as a program that listens, and keeps its sessions in a file. */
  function written(code: string): string {
    const cache = join(ROOT, 'node_modules/.cache')
    mkdirSync(cache, { recursive: true })
    const place = mkdtempSync(join(cache, 'mcp-roam-auth-'))
    ends.push(() => rmSync(place, { recursive: true, force: true, maxRetries: 5 }))
    const write = (name: string, text: string) => writeFileSync(join(place, name), text)
    write('package.json', '{ "type": "module" }')
    write('server.ts', servers[line === 'v1' ? 0 : 1]?.code ?? '')
    write('verifier.ts', verifierFor(line))
    const kept = `createSessionHandler(buildServer, { backend: sqlite({ file: ${JSON.stringify(join(place, 'sessions.db'))} }) })`
    const program = code
      .replace(/^declare const verifier.*$/m, "import { verifier } from './verifier.js'")
      .replace('createSessionHandler(buildServer)', kept)
      .replace("'mcp-roam'", JSON.stringify(join(ROOT, 'dist/index.js')))
    write(
      'program.ts',
      `import { sqlite } from ${JSON.stringify(join(ROOT, 'dist/backend/sqlite.js'))}\n${program}\n${listening}`,
    )
    return join(place, 'program.ts')
  }
})

async function connected(client: TestClient): Promise<TestClient> {
  ends.push(() => client.close())
  return client
}
