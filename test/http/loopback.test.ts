/** What is checked where no list says what is allowed: on a loopback address, what the web page of a stranger can send. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { SessionTransport } from '../../src/index.js'
import { DOORS, type Served } from '../harness/door.js'
import { initializeMessage } from '../harness/wire-client.js'
import { within } from '../harness/within.js'
import { discard, scratch } from '../services/children.js'
import { type Stage, stage } from './stage.js'

const LOOPBACK = [
  'localhost',
  'LOCALHOST:3000',
  'app.localhost:80',
  'localhost.',
  'app.localhost.:3000',
  '127.0.0.1:3000',
  '127.1.2.3',
  '[::1]',
  '[::1]:3000',
]
const STRANGE = [
  'evil.example',
  'evil.example:3000',
  'localhost.evil.example',
  'evil-localhost',
  '127.0.0.1.evil.example',
  '192.0.2.1:3000',
  '0.0.0.0:3000',
  '[::ffff:127.0.0.1]:3000',
  '[::2]',
]

const JSON_BODY = { 'content-type': 'application/json' }

type Headers = Record<string, string>

/** The status of an `initialize`, sent to any address with any headers. */
async function status(to: http.RequestOptions, headers: Headers): Promise<number> {
  const body = JSON.stringify(initializeMessage())
  const common = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' }
  const answered = new Promise<number>((resolve, reject) => {
    const options = { method: 'POST', path: '/mcp', agent: false, ...to, headers: { ...common, ...headers } }
    http
      .request(options, (response) => resolve(response.resume().statusCode ?? 0))
      .on('error', reject)
      .end(body)
  })
  return within(answered, 'an answer')
}

/** Listens until the test ends. */
async function listening(served: Served['node'], at: { host: string } | { path: string }): Promise<http.Server> {
  const server = http.createServer((req, res) => void served(req, res))
  await new Promise<void>((resolve, reject) =>
    server.on('error', reject).listen('host' in at ? { port: 0, ...at } : at, resolve),
  )
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return server
}

const portOf = (server: http.Server) => (server.address() as AddressInfo).port

describe.each(DOORS)('through the %s adapter', (name) => {
  const tried = async (at: Stage, headers: Headers) => (await at.send({ headers, body: initializeMessage() })).status

  test.each(LOOPBACK)('a request to %s is served', async (host) => {
    expect(await tried(await stage(name), { host })).toBe(200)
  })

  test.each(STRANGE)("403: a request to '%s'", async (host) => {
    const at = await stage(name)
    expect(await tried(at, { host })).toBe(403)
    expect(at.factory.received.count).toBe(0)
  })

  test.each(LOOPBACK)('a page of %s may call, whatever its port and scheme', async (host) => {
    const at = await stage(name)
    expect(await tried(at, { origin: `http://${host}` })).toBe(200)
    expect(await tried(at, { origin: `https://${host}` })).toBe(200)
  })

  test.each([
    ...STRANGE.map((host) => `http://${host}`),
    'null',
    '',
    'file://',
    'chrome-extension://abcdefgh',
    'http://localhost, https://evil.example',
  ])("403: a page of '%s'", async (origin) => {
    expect(await tried(await stage(name), { origin })).toBe(403)
  })

  test('a list takes the place of the loopback names for its own header', async () => {
    const hosts = await stage(name, { allowedHosts: ['mcp.example'] })
    expect(await tried(hosts, { host: 'mcp.example' })).toBe(200)
    expect(await tried(hosts, { host: 'localhost' })).toBe(403)
    const origins = await stage(name, { allowedOrigins: ['https://app.example'] })
    expect(await tried(origins, { host: 'localhost', origin: 'https://app.example' })).toBe(200)
    expect(await tried(origins, { host: 'localhost', origin: 'http://localhost' })).toBe(403)
    expect(await tried(origins, { host: 'evil.example' })).toBe(403)
  })

  test("'*' switches a check off", async () => {
    const open = await stage(name, { allowedHosts: ['*'], allowedOrigins: ['*'] })
    expect(await tried(open, { host: 'evil.example', origin: 'null' })).toBe(200)
    expect(open.errors).toEqual([])
  })

  test('onerror is told once of each name, and which option would allow it', async () => {
    const at = await stage(name)
    for (const port of [1, 2]) await tried(at, { host: `mcp.example:${port}` })
    for (let i = 0; i < 2; i++) await tried(at, { host: 'localhost', origin: 'https://app.example' })
    expect(at.errors.map(({ message }) => message)).toEqual([
      expect.stringMatching(
        /Host "mcp\.example", .* set allowedHosts: \["mcp\.example"\] \(mcp-roam serve: --allowed-host\)/,
      ),
      expect.stringMatching(/Origin "https:\/\/app\.example", .* set allowedOrigins: \["https:\/\/app\.example"\]/),
    ])
  })

  test('onerror is told of a few names only, and nothing of those that a list refuses', async () => {
    const at = await stage(name)
    for (let i = 0; i < 40; i++) await tried(at, { host: `h${i}.example` })
    expect(at.errors).toHaveLength(16)
    const listed = await stage(name, { allowedHosts: ['mcp.example'], allowedOrigins: [] })
    await tried(listed, { host: 'evil.example' })
    await tried(listed, { host: 'mcp.example', origin: 'https://evil.example' })
    expect(listed.errors).toEqual([])
  })
})

describe('the address that a request came in on', () => {
  const evil = { host: 'evil.example' }

  test.each(['127.0.0.1', '127.0.0.9', '::1'])('%s is loopback', async (host) => {
    const at = await stage('node')
    const port = portOf(await listening(at.handler.node, { host }))
    expect(await status({ host, port }, evil)).toBe(403)
    expect(await status({ host, port }, { host: 'localhost' })).toBe(200)
  })

  test('127.0.0.1 is loopback on a server that listens on all addresses, of IPv6, too', async () => {
    const at = await stage('node')
    const port = portOf(await listening(at.handler.node, { host: '::' }))
    expect(await status({ host: '127.0.0.1', port }, evil)).toBe(403)
    expect(await status({ host: '::1', port }, evil)).toBe(403)
  })

  const outside = Object.values(networkInterfaces())
    .flat()
    .find((own) => own && !own.internal && own.family === 'IPv4')?.address

  test.skipIf(!outside)('another one is not, and nothing is checked there', async () => {
    const at = await stage('node')
    const host = outside as string
    const port = portOf(await listening(at.handler.node, { host: '0.0.0.0' }))
    expect(await status({ host, port }, { ...evil, origin: 'https://evil.example' })).toBe(200)
  })

  test('a Unix socket has none, and nothing is checked there', async () => {
    const at = await stage('node')
    const folder = scratch()
    onTestFinished(() => discard(folder))
    const path = join(folder, 'socket')
    await listening(at.handler.node, { path })
    expect(await status({ socketPath: path }, { ...evil, origin: 'null' })).toBe(200)
  })

  test('that of a connection which has gone is not known: a page cannot get by in leaving early', async () => {
    const at = await stage('node')
    let served: Promise<unknown> = Promise.resolve()
    const left = new Promise<void>((resolve) => {
      // as behind middleware that waits for something: it comes to the handler when the client has gone
      void listening(
        (req, res) => {
          req.resume().once('close', () => {
            served = at.handler.node(req, res, initializeMessage())
            resolve()
          })
          req.socket.destroy()
        },
        { host: '127.0.0.1' },
      ).then((server) => status({ host: '127.0.0.1', port: portOf(server) }, evil).catch(() => {}))
    })
    await within(left, 'the end of the connection')
    await within(served, 'the end of the request')
    expect(at.factory.received.count).toBe(0)
    expect(at.errors).toEqual([])
  })

  test('the last word of a client that has left counts: a page does not know the id of a session', async () => {
    const at = await stage('node')
    const client = await at.session()
    const leave = async (method: string, message?: object) => {
      const headers = { ...evil, 'mcp-session-id': client.sessionId, accept: 'application/json, text/event-stream' }
      let served: Promise<unknown> = Promise.resolve()
      const left = new Promise<void>((resolve) => {
        const late: Served['node'] = (req, res) => {
          req.resume().once('close', () => {
            served = at.handler.node(req, res, message)
            resolve()
          })
          req.socket.destroy()
        }
        void listening(late, { host: '127.0.0.1' }).then((server) => {
          const options = { method, host: '127.0.0.1', port: portOf(server), headers: { ...headers, ...JSON_BODY } }
          http
            .request(options)
            .on('error', () => {})
            .end()
        })
      })
      await within(left, 'the end of the connection')
      await within(served, 'the end of the request')
    }
    await leave('POST', { jsonrpc: '2.0', method: 'notifications/roots/list_changed' })
    expect(at.server.methods).toContain('notifications/roots/list_changed')
    await leave('DELETE')
    expect(await at.handler.sessions.get(client.sessionId)).toBeUndefined()
  })

  test('for fetch it is the host of the URL', async () => {
    const at = await stage('fetch')
    const headers = { accept: '*/*', 'content-type': 'application/json', origin: 'https://evil.example' }
    const init = { method: 'POST', headers, body: JSON.stringify(initializeMessage()) }
    const through = async (url: string) => (await at.handler.fetch(new Request(url, init))).status
    expect(await through('http://localhost:3000/mcp')).toBe(403)
    expect(await through('http://[::1]/mcp')).toBe(403)
    expect(await through('http://127.0.0.1?x')).toBe(403)
    for (const host of ['localhost.', '0.0.0.0', '[::]', '[::ffff:127.0.0.1]', '127.1']) {
      expect(await through(`http://${host}:3000/mcp`), host).toBe(403)
    }
    expect(await through('https://mcp.example/localhost')).toBe(200)
  })
})

test('a transport by itself checks the same, and all transports of a backend tell a name once', async () => {
  const backend = memory()
  const errors: Error[] = []
  for (let i = 0; i < 2; i++) {
    const transport = new SessionTransport({ backend, onerror: (error) => errors.push(error) })
    onTestFinished(() => transport.close())
    const server = await listening((req, res) => transport.handleRequest(req, res), { host: '127.0.0.1' })
    expect(await status({ host: '127.0.0.1', port: portOf(server) }, { host: 'evil.example' })).toBe(403)
  }
  expect(errors).toHaveLength(1)
})
