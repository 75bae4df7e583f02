/** Origin and Host checks, through both adapters. */
import { describe, expect, test } from 'vitest'
import type { SessionHandlerOptions } from '../../src/index.js'
import type { DoorName } from '../harness/door.js'
import { DOORS, type Sent } from '../harness/door.js'
import { initializeMessage } from '../harness/wire-client.js'
import { connection } from './connection.js'
import { stage } from './stage.js'

const ping = { jsonrpc: '2.0', id: 1, method: 'ping' }

/** How an `initialize` with these headers is answered. */
async function status(
  name: DoorName,
  options: SessionHandlerOptions,
  headers: NonNullable<Sent['headers']>,
): Promise<number> {
  const at = await stage(name, options)
  return (await at.send({ headers, body: initializeMessage() })).status
}

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('allowedOrigins', () => {
    const options = { allowedOrigins: ['https://App.example.com', 'http://localhost:5173', 'any.example.org', '[::1]'] }

    test.each([
      ['none, as from anything but a browser', undefined],
      ['an origin on the list', 'https://app.example.com'],
      ['in another case', 'HTTPS://APP.EXAMPLE.COM'],
      ['with its port', 'http://localhost:5173'],
      ['a host name on the list, any scheme', 'http://any.example.org'],
      ['a host name on the list, any port', 'https://any.example.org:8443'],
      ['an IPv6 address on the list', 'http://[::1]:3000'],
    ])('allowed: %s', async (_, origin) => {
      expect(await status(name, options, { origin })).toBe(200)
    })

    test.each([
      ['another one', 'https://evil.example'],
      ['the right name under another scheme', 'http://app.example.com'],
      ['the right name at another port', 'https://app.example.com:8443'],
      ['the right name without the port', 'http://localhost'],
      ['a subdomain', 'https://x.any.example.org'],
      ['a name that ends alike', 'https://evilany.example.org'],
      ['a name that begins alike', 'https://any.example.org.evil.example'],
      ['the name as user info', 'https://any.example.org@evil.example'],
      ['the name in a path', 'https://evil.example/any.example.org'],
      ['an opaque origin', 'null'],
      ['no origin at all', 'nonsense'],
      ['an empty one', ''],
      ['two', 'https://app.example.com, https://evil.example'],
      ['a browser extension', 'chrome-extension://abcdefgh'],
    ])('403: %s', async (_, origin) => {
      expect(await status(name, options, { origin })).toBe(403)
    })

    test('an empty list allows no browser, and everything else', async () => {
      expect(await status(name, { allowedOrigins: [] }, { origin: 'http://localhost' })).toBe(403)
      expect(await status(name, { allowedOrigins: [] }, { origin: 'null' })).toBe(403)
      expect(await status(name, { allowedOrigins: [] }, {})).toBe(200)
    })

    test("'*' on the list allows all, opaque ones too", async () => {
      for (const origin of ['https://evil.example', 'null', 'nonsense']) {
        expect(await status(name, { allowedOrigins: ['*'] }, { origin })).toBe(200)
      }
    })
  })

  describe('allowedHosts', () => {
    const options = { allowedHosts: ['Mcp.example.com', 'fixed.example.com:8080', 'localhost', '127.0.0.1', '[::1]'] }

    test.each([
      'mcp.example.com',
      'MCP.EXAMPLE.COM',
      'mcp.example.com:443',
      'fixed.example.com:8080',
      'localhost',
      'localhost:3000',
      '127.0.0.1',
      '127.0.0.1:65535',
      '[::1]',
      '[::1]:3000',
    ])('allowed: %s', async (host) => {
      expect(await status(name, options, { host })).toBe(200)
    })

    test.each([
      'evil.example',
      'fixed.example.com',
      'fixed.example.com:8081',
      'localhost.evil.example',
      'evil-localhost',
      'localhost:3000.evil.example',
      'localhost@evil.example',
      '127.0.0.1.evil.example:80',
      '127.0.0.2',
      '[::2]',
    ])("403: '%s'", async (host) => {
      expect(await status(name, options, { host })).toBe(403)
    })

    test('an empty list allows nothing', async () => {
      expect(await status(name, { allowedHosts: [] }, { host: 'localhost' })).toBe(403)
    })

    test("'*' on the list allows all", async () => {
      expect(await status(name, { allowedHosts: ['*'] }, { host: 'evil.example' })).toBe(200)
    })
  })

  test('Origin and Host must pass on every method, before anything else is looked at', async () => {
    const options = { allowedHosts: ['mcp.example'], allowedOrigins: ['https://app.example'] }
    const at = await stage(name, options)
    const good = { host: 'mcp.example', origin: 'https://app.example' }
    const client = await at.session({ headers: good })
    const before = at.server.received.count
    for (const bad of [
      { ...good, host: 'evil.example' },
      { ...good, origin: 'https://evil.example' },
    ]) {
      for (const sent of [
        { method: 'POST', body: ping },
        { method: 'POST', body: 'not json' },
        { method: 'GET' },
        { method: 'DELETE' },
        { method: 'OPTIONS' },
      ]) {
        const answer = await client.send({ ...sent, headers: bad })
        expect(answer).toMatchObject({ status: 403, body: { jsonrpc: '2.0', id: null, error: { code: -32000 } } })
        expect(answer.text).not.toContain('evil')
      }
    }
    expect(at.server.received.count).toBe(before)
    expect((await client.post(ping)).status).toBe(200)
  })
})

test('no Host at all, as HTTP/1.0 may have it, is none that is allowed', async () => {
  const at = await stage('node', { allowedHosts: ['localhost'] })
  const { said } = await connection(at, 'GET /mcp HTTP/1.0', { accept: '*/*' })
  expect(await said()).toMatch(/^HTTP\/1\.1 403 /)
})

// HTTP/2 has `:authority` instead, which runtimes put into the URL and not all of them into the headers
test('a Host that fetch does not hand on is the URL’s', async () => {
  const at = await stage('fetch', { allowedHosts: ['mcp.example'] })
  const headers = { accept: '*/*', 'content-type': 'application/json' }
  const init = { method: 'POST', headers, body: JSON.stringify(initializeMessage()) }
  expect((await at.handler.fetch(new Request('https://mcp.example:8443/mcp', init))).status).toBe(200)
  expect((await at.handler.fetch(new Request('https://evil.example/mcp', init))).status).toBe(403)
})
