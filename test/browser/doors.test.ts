/** A real browser: pages of strangers reach no server on loopback, under its names or under one of their own. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import puppeteer, { type Browser, type Page } from 'puppeteer-core'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { sqlite } from '../../src/backend/sqlite.js'
import { inLanguage, ROOT } from '../docs/blocks.js'
import { connect, freePort, Program } from '../docs/programs.js'
import { chromium, describeWith } from '../services/use.js'

/** What a page sends, and what it sees: a status, or that the browser keeps the answer from it. */
const KNOCK = `async (base, session) => {
  const message = (method, params) => JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
  const info = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'page', version: '1' } }
  const accept = 'application/json, text/event-stream'
  const json = { accept, 'content-type': 'application/json' }
  const knocks = {
    initialize: ['/mcp', { method: 'POST', headers: json, body: message('initialize', info) }],
    plain: ['/mcp', { method: 'POST', mode: 'no-cors', headers: { accept }, body: message('initialize', info) }],
    call: ['/mcp', { method: 'POST', headers: { ...json, 'mcp-session-id': session }, body: message('tools/list') }],
    stream: ['/mcp', { headers: { accept: 'text/event-stream', 'mcp-session-id': session } }],
    end: ['/mcp', { method: 'DELETE', headers: { 'mcp-session-id': session } }],
    health: ['/healthz', {}],
  }
  const seen = {}
  for (const [name, [path, init]] of Object.entries(knocks)) {
    seen[name] = await fetch(base + path, init).then((answer) => answer.status || answer.type, () => 'kept back')
  }
  return seen
}`

type Seen = Record<'initialize' | 'plain' | 'call' | 'stream' | 'end' | 'health', number | string>

const knock = (page: Page, base: string, session: string) =>
  page.evaluate(`(${KNOCK})(${JSON.stringify(base)}, ${JSON.stringify(session)})`) as Promise<Seen>

interface Running {
  port: number
  /** The database of its sessions. */
  file: string
}

/** The short program of a page on frameworks, as it stands there. */
async function quickstart(page: string): Promise<Running> {
  const { place, port, file } = await folderAndPort()
  const blocks = inLanguage('ts').filter((block) => block.file.startsWith('docs/frameworks/'))
  const program = blocks.find((block) => block.file.endsWith(page))
  const server = blocks.find(({ code }) => code.startsWith('// server.ts\n'))
  const local = (code = '') =>
    code
      .replace(/'mcp-roam'/g, JSON.stringify(join(ROOT, 'dist/index.js')))
      .replace(/'mcp-roam\/(\w+)'/g, (_, name) => JSON.stringify(join(ROOT, `dist/backend/${name}.js`)))
      .replace('3000', String(port))
      .replace("'sessions.db'", JSON.stringify(file))
  writeFileSync(join(place, 'package.json'), '{ "type": "module" }')
  writeFileSync(join(place, 'server.ts'), local(server?.code))
  writeFileSync(join(place, 'program.ts'), local(program?.code))
  await start(['--import', 'tsx', join(place, 'program.ts')], port)
  return { port, file }
}

async function serve(): Promise<Running> {
  const { port, file } = await folderAndPort()
  const server = [process.execPath, join(ROOT, 'node_modules/@modelcontextprotocol/server-everything/dist/index.js')]
  const flags = ['--port', String(port), '--backend', `sqlite:${file}`]
  await start([join(ROOT, 'dist/cli/main.js'), 'serve', ...flags, '--', ...server], port)
  return { port, file }
}

async function start(args: string[], port: number): Promise<void> {
  const program = new Program(args, [port], {})
  onTestFinished(async () => void (await program.end('SIGKILL')))
  await program.start()
}

async function folderAndPort() {
  // Inside the repository, so that packages are found.
  const cache = join(ROOT, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  const place = mkdtempSync(join(cache, 'mcp-roam-browser-'))
  onTestFinished(() => rmSync(place, { recursive: true, force: true, maxRetries: 5 }))
  return { place, port: await freePort(), file: join(place, 'sessions.db') }
}

async function sessionsIn(file: string): Promise<string[]> {
  const backend = sqlite({ file })
  const ids: string[] = []
  for await (const { id } of backend.sessions.list()) ids.push(id)
  await backend.close()
  return ids
}

describeWith('a page of a stranger', await chromium(), (executablePath) => {
  let browser: Browser
  beforeAll(async () => {
    // What a name server of the page's owner would say once the page is there. Root has no sandbox.
    const args = ['--host-resolver-rules=MAP evil.test 127.0.0.1', '--no-sandbox']
    browser = await puppeteer.launch({ executablePath, args })
  })
  afterAll(() => browser.close())

  async function open(url: string): Promise<Page> {
    const page = await browser.newPage()
    onTestFinished(() => page.close())
    await page.goto(url)
    return page
  }

  /** A page of a server of its own. */
  async function strange(): Promise<Page> {
    const server = createServer((_, res) => res.setHeader('content-type', 'text/html').end('<!doctype html>'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.close()
      server.closeAllConnections()
    })
    return open(`http://evil.test:${(server.address() as AddressInfo).port}/`)
  }

  const servers: [string, () => Promise<Running>, boolean][] = [
    ['the quickstart of node:http', () => quickstart('node-http.md'), false],
    ['the quickstart of Hono', () => quickstart('hono.md'), false],
    ['mcp-roam serve', serve, true],
  ]

  it.each(servers)('cannot reach %s: nothing it sends is served', async (_, run, hasHealth) => {
    const { port, file } = await run()
    const owner = await connect(port)
    onTestFinished(() => owner.close())
    const session = owner.sessionId() ?? ''
    const before = await sessionsIn(file)
    expect(before).toEqual([session])

    const page = await strange()
    for (const name of ['127.0.0.1', 'localhost']) {
      const seen = await knock(page, `http://${name}:${port}`, session)
      const kept = 'kept back'
      expect(seen).toMatchObject({
        initialize: kept,
        plain: 'opaque',
        call: kept,
        stream: kept,
        end: kept,
        health: kept,
      })
    }

    // Its name leads here now: for the browser this is the page's own server.
    const rebound = await open(`http://evil.test:${port}/mcp`)
    const seen = await knock(rebound, '', session)
    expect(seen).toMatchObject({ initialize: 403, plain: 403, call: 403, stream: 403, end: 403 })
    if (hasHealth) expect(seen.health).toBe(403)
    expect(await sessionsIn(file)).toEqual(before)
  })

  it.each(servers)('a page of %s itself can, so it is not the browser that kept the others out', async (_, run) => {
    const { port, file } = await run()
    const page = await open(`http://127.0.0.1:${port}/mcp`)
    expect(await knock(page, '', 'unknown')).toMatchObject({ initialize: 200, plain: 415, call: 404 })
    expect(await sessionsIn(file)).toHaveLength(1)
  })
})
