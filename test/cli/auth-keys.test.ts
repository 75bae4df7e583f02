/** `serve` with API keys. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ApiKeys, checkNames, keysInVariable, readKeyFile } from '../../src/cli/serve/auth/api-keys.js'
import { urlDoor } from '../harness/door.js'
import { SDKS } from '../harness/server.js'
import { WireClient } from '../harness/wire-client.js'
import { runs } from './runs.js'
import { type RunOptions, script } from './served.js'

const test = runs()
const ALICE = 'alices-key-of-32-characters-0001'
const ALICE_TOO = 'alices-key-of-32-characters-0002'
const BOB = 'bobs-key/of+32.characters~00003=='

async function serve(flags: string[] = [], options?: RunOptions, port = '0') {
  const backend = `sqlite:${join(test.folder, 'sessions.db')}`
  const cli = test.run(['serve', '--port', port, '--backend', backend, ...flags, '--', ...script('tools')], options)
  return { cli, url: await cli.ready() }
}

function keyFile(text: string, mode = 0o600): string {
  const file = join(test.folder, 'keys')
  writeFileSync(file, text)
  chmodSync(file, mode)
  return file
}

const TWO = `# those of the office\n\nalice:${ALICE}\r\n  alice:${ALICE_TOO}\nbob:${BOB}\n`

const PING = { jsonrpc: '2.0', id: 1, method: 'ping' }
const ask = (url: string, headers: Record<string, string>, sessionId?: string, method = 'POST') =>
  new WireClient(urlDoor(url), sessionId ?? '', undefined, { headers }).send(
    method === 'POST' ? { body: PING } : { method },
  )

describe.each(SDKS)('client %s', (sdk) => {
  it.each([
    ['one process', []],
    ['workers', ['--workers', '2']],
  ])('with a key it has a session, which is its own, over a restart too; %s', async (_, workers) => {
    const flags = ['--api-key-file', keyFile(TWO), ...workers]
    const { cli, url } = await serve(flags)
    const client = await test.connect(url, sdk, { token: ALICE })
    expect(await client.call('release')).toBe('released')
    const id = client.sessionId() ?? ''

    await cli.kill()
    await serve(flags, {}, new URL(url).port)

    expect(await client.call('release')).toBe('released')
    expect(client.sessionId()).toBe(id)
    expect(client.wire.count('initialize')).toBe(1)
    const bearer = (key: string) => ask(url, { authorization: `Bearer ${key}` }, id)
    expect((await bearer(BOB)).status).toBe(404)
    // The same person with another key, and with the other header.
    expect((await bearer(ALICE_TOO)).status).toBe(200)
    expect((await ask(url, { 'x-api-key': ALICE }, id)).status).toBe(200)
  })

  it('without a key it is told to bring one', async () => {
    const { url } = await serve([], { env: { MCP_ROAM_API_KEY: ALICE } })
    await expect(test.connect(url, sdk)).rejects.toThrow(/401|Unauthorized/)
    await expect(test.connect(url, sdk, { token: BOB })).rejects.toThrow(/401|Unauthorized/)
  })
})

it('says 401 in the words of JSON-RPC and of RFC 6750, whatever the request is', async () => {
  const { url } = await serve(['--api-key-file', keyFile(TWO)])
  const session = await test.connect(url, 'v1', { token: ALICE })
  for (const method of ['POST', 'GET', 'DELETE']) {
    for (const id of [undefined, session.sessionId()]) {
      const none = await ask(url, {}, id, method)
      expect(none).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer' } })
      expect(none.body).toEqual({
        jsonrpc: '2.0',
        error: { code: -32000, message: 'Unauthorized: a bearer token is required' },
        id: null,
      })
    }
  }
  const others = [
    { authorization: `Bearer ${ALICE}x` },
    { authorization: `Bearer ${ALICE.slice(0, -1)}` },
    { authorization: `Bearer ${ALICE.toUpperCase()}` },
    { 'x-api-key': `alice:${ALICE}` },
    { 'x-api-key': '' },
  ]
  for (const headers of others) {
    const answer = await ask(url, headers, session.sessionId())
    expect(answer.status).toBe(401)
    expect(answer.headers['www-authenticate']).toBe(
      'Bearer error="invalid_token", error_description="Unauthorized: the key is not known"',
    )
    expect(JSON.stringify(answer)).not.toContain(ALICE)
  }
  for (const authorization of [`Basic ${ALICE}`, ALICE, 'Bearer', `Bearer ${ALICE} ${ALICE}`]) {
    expect(await ask(url, { authorization })).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer' } })
  }
})

it('asks nobody for a key at /healthz, nor before a browser may send one', async () => {
  const { url } = await serve([], { env: { MCP_ROAM_API_KEY: ALICE } })
  expect((await fetch(new URL('/healthz', url))).status).toBe(200)
  expect((await fetch(url, { method: 'OPTIONS' })).status).not.toBe(401)
  expect((await fetch(new URL('/.well-known/oauth-protected-resource', url))).status).toBe(404)
})

it('tells its operator nothing of OAuth clients, for there are none', async () => {
  const { cli, url } = await serve([], { env: { MCP_ROAM_API_KEY: `alice:${ALICE}` } })
  const client = await test.connect(url, 'v1', { token: ALICE })
  expect(await client.call('release')).toBe('released')
  expect(cli.log).not.toMatch(/OAuth|principal/)
})

it('keeps keys from the child and from the log', async () => {
  const flags = ['--api-key-file', keyFile(TWO)]
  const { cli, url } = await serve(flags, { env: { MCP_ROAM_API_KEY: 'carol:carols-key-of-32-characters-' } })
  const client = await test.connect(url, 'v1', { token: ALICE })
  const env = await client.call('env')
  await ask(url, { authorization: 'Bearer no-such-key-that-is-known' })
  expect(JSON.parse(env)).toHaveProperty('PATH')
  for (const text of [env, cli.log, cli.stdout]) expect(text).not.toMatch(/-key-|MCP_ROAM_API_KEY/)
  const passed = await test.ends(['serve', '--env', 'MCP_ROAM_API_KEY', '--', ...script('tools')], {
    env: { MCP_ROAM_API_KEY: ALICE },
  })
  expect(passed).toMatchObject({ code: 2, says: expect.stringMatching(/not to know the keys of its callers/) })
  expect(passed.says).not.toContain(ALICE)
})

describe('what it says when it starts', () => {
  const loud = 'mcp-roam: WARNING: no authentication: whoever reaches 0.0.0.0 can start processes here'

  it('that anybody may call it, if others can reach it', async () => {
    const { cli } = await serve(['--host', '0.0.0.0', '--workers', '2'])
    expect(cli.lines.all.filter((line) => line.includes('WARNING'))).toEqual([expect.stringContaining(loud)])
    expect((await serve()).cli.log).not.toContain('WARNING')
    expect((await serve(['--host', '0.0.0.0'], { env: { MCP_ROAM_API_KEY: ALICE } })).cli.log).not.toContain('WARNING')
  })

  it('that others can read the file', async () => {
    const { cli } = await serve(['--api-key-file', keyFile(TWO, 0o644)])
    expect(cli.log).toMatch(/WARNING: other users can read \S+\/keys: chmod 600 it/)
    expect((await serve(['--api-key-file', keyFile(TWO, 0o640)])).cli.log).not.toContain('WARNING')
  })

  it.each([
    ['no file', () => '/no/such/file', /cannot read the API keys in \/no\/such\/file: ENOENT/],
    ['no key', () => keyFile('# none\n'), /there are no API keys in/],
    ['a short one', () => keyFile(`${ALICE}\nbob:secret-of-bob`), /line 2 of \S+: a key has at least 16 characters/],
    ['one that cannot be sent', () => keyFile(`bob:with blanks in the key, see`), /line 1 of \S+: a key is made of/],
    ['a name that is none', () => keyFile(`b ob:${BOB}`), /line 1 of \S+: a name is made of/],
    ['one of two people', () => keyFile(`alice:${ALICE}\nbob:${ALICE}`), /the same API key is given under two names/],
  ])('that there is something wrong with the keys: %s', async (_, file, says) => {
    const ended = await test.ends(['serve', '--api-key-file', file(), '--', ...script('tools')])
    expect(ended).toMatchObject({ code: 2, says: expect.stringMatching(says) })
    expect(ended.says).not.toMatch(/alices-key|secret-of|with blanks/)
  })

  it.each(['', 'short', `${ALICE},`])('that the variable holds no key: %j', async (variable) => {
    const options = { env: { MCP_ROAM_API_KEY: variable } }
    const ended = await test.ends(['serve', '--', ...script('tools')], options)
    expect(ended).toMatchObject({
      code: 2,
      says: expect.stringMatching(/^mcp-roam: key \d of MCP_ROAM_API_KEY: a key/),
    })
  })
})

describe('keys', () => {
  it('name their owner, never themselves', () => {
    const keys = new ApiKeys(keysInVariable(`${ALICE}, bob:${BOB}`))
    expect(keys.find(BOB)?.clientId).toBe('key:bob')
    const { clientId = '' } = keys.find(ALICE) ?? {}
    expect(clientId).toMatch(/^key:sha256-[\w-]{22}$/)
    expect(new ApiKeys(keysInVariable(ALICE)).find(ALICE)?.clientId).toBe(clientId)
    expect(keys.find('')).toBeUndefined()
  })

  it('of a file: comments, blank lines and a byte order mark are none', () => {
    expect(readKeyFile(keyFile(`\uFEFF${TWO}`))).toEqual([
      { name: 'alice', key: ALICE },
      { name: 'alice', key: ALICE_TOO },
      { name: 'bob', key: BOB },
    ])
    expect(() =>
      checkNames([
        { name: 'a', key: ALICE },
        { name: 'a', key: ALICE },
      ]),
    ).not.toThrow()
  })
})
