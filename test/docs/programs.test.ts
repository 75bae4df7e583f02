/** The programs of the documentation do what it says: they serve, and their sessions survive them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { describeWith, redisUrl } from '../services/use.js'
import { type Block, inLanguage, PAGES, ROOT } from './blocks.js'
import { type Caller, connect, freePort, Program } from './programs.js'

const ends: (() => unknown)[] = []

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'mcp-roam-docs-'))
  ends.push(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }))
  return path
}

async function started(args: string[], ports: number[], env: Record<string, string>, cwd?: string): Promise<Program> {
  const program = new Program(args, ports, env, cwd)
  ends.push(() => program.end('SIGKILL'))
  await program.start()
  return program
}

async function connected(port: number): Promise<Caller> {
  const caller = await connect(port)
  ends.push(() => caller.close())
  return caller
}

it('the minimal server’s sessions survive it, and SIGTERM ends it', async () => {
  const port = await freePort()
  const env = { PORT: String(port), SESSIONS: join(folder(), 'sessions.db') }
  const program = await started(['examples/minimal/server.js'], [port], env)
  const caller = await connected(port)
  const id = caller.sessionId()
  expect(await caller.call('visit')).toBe('visit 1')
  expect(await program.end('SIGKILL')).toBe('SIGKILL')
  await program.start()
  expect(await caller.call('visit')).toBe('visit 2')
  expect(caller.sessionId()).toBe(id)
  expect(await program.end('SIGTERM')).toBe(0)
})

it.each(['v1', 'v2'])('the Express server with transports of its own, after the change, with line %s', async (line) => {
  const port = await freePort()
  const env = { PORT: String(port), SESSIONS: join(folder(), 'sessions.db') }
  const program = await started([`examples/express-transport/${line}-after.js`], [port], env)
  const caller = await connected(port)
  expect(await caller.call('client')).toBe('docs 1.0.0')
  await program.end('SIGKILL')
  await program.start()
  // at once, so that each of them may be the one that restores
  expect(await Promise.all([1, 2, 3].map(() => caller.call('client')))).toEqual(Array(3).fill('docs 1.0.0'))
  const stranger = await fetch(`http://127.0.0.1:${port}/mcp`, {
    headers: { accept: 'text/event-stream', 'mcp-session-id': 'unknown' },
  })
  expect(stranger.status).toBe(404)
})

it.each([
  ['express-transport/v1-before.js', 'client', 'docs 1.0.0'],
  ['express/before.js', 'hello', 'Hello'],
])('examples/%s, the Express server before the change, forgets its sessions', async (name, tool, answer) => {
  const port = await freePort()
  const program = await started([join(ROOT, 'examples', name)], [port], { PORT: String(port) }, folder())
  const caller = await connected(port)
  expect(await caller.call(tool)).toBe(answer)
  await program.end('SIGKILL')
  await program.start()
  await expect(caller.call(tool)).rejects.toThrow(/session|not initialized/)
})

it('the Express server after the change of the README keeps them', async () => {
  const port = await freePort()
  const program = await started([join(ROOT, 'examples/express/after.js')], [port], { PORT: String(port) }, folder())
  const caller = await connected(port)
  expect(await caller.call('hello')).toBe('Hello')
  await program.end('SIGKILL')
  await program.start()
  expect(await caller.call('hello')).toBe('Hello')
})

describe.each([0, 1])('the programs of the pages on frameworks, with server.ts number %i', (line) => {
  const blocks = inLanguage('ts').filter(({ file }) => file.startsWith('docs/frameworks/'))
  const server = blocks.filter(({ code }) => code.startsWith('// server.ts\n'))[line] as Block
  const programs = blocks.filter(({ code }) => code.includes('3000'))
  const isGraceful = ({ code }: Block) => code.includes("process.once('SIGTERM', stop)")
  const short = programs.filter((block) => !isGraceful(block))
  const graceful = programs.filter(isGraceful)

  it('each page has a short one, and one with a graceful stop', () => {
    const pages = PAGES.filter((page) => page.startsWith('docs/frameworks/') && !page.endsWith('README.md'))
    expect(pages).toHaveLength(4)
    expect(short.map(({ file }) => file)).toEqual(pages)
    expect(graceful.map(({ file }) => file)).toEqual(pages)
  })

  it('the short ones serve, and their sessions survive them', { timeout: 60_000 }, async () => {
    const { file, ports } = await written(short)
    const program = await started(['--import', 'tsx', file], ports, {})
    const callers = await Promise.all(ports.map((port) => connected(port)))
    for (const caller of callers) expect(await caller.call('hello')).toBe('Hello')
    await program.end('SIGKILL')
    await program.start()
    for (const caller of callers) expect(await caller.call('hello')).toBe('Hello')
  })

  it('those with a graceful stop end on SIGTERM while clients listen, and their sessions go on', {
    timeout: 60_000,
  }, async () => {
    const { file, ports } = await written(graceful)
    const program = await started(['--import', 'tsx', file], ports, {})
    const callers = await Promise.all(ports.map((port) => connected(port)))
    for (const caller of callers) expect(await caller.call('hello')).toBe('Hello')
    expect(await program.end('SIGTERM')).toBe(0)
    await program.start()
    for (const caller of callers) expect(await caller.call('hello')).toBe('Hello')
  })

  /** A program that runs all of them, each on a port of its own. */
  async function written(all: Block[]): Promise<{ file: string; ports: number[] }> {
    // Inside the repository, so that packages are found; `mcp-roam` is what was built.
    const cache = join(ROOT, 'node_modules/.cache')
    mkdirSync(cache, { recursive: true })
    const place = mkdtempSync(join(cache, 'mcp-roam-frameworks-'))
    ends.push(() => rmSync(place, { recursive: true, force: true, maxRetries: 5 }))
    const sessions = JSON.stringify(join(folder(), 'sessions.db'))
    const write = (name: string, code: string) => {
      const local = code
        .replace(/'mcp-roam'/g, JSON.stringify(join(ROOT, 'dist/index.js')))
        .replace(/'mcp-roam\/(\w+)'/g, (_, name) => JSON.stringify(join(ROOT, `dist/backend/${name}.js`)))
      writeFileSync(join(place, name), local)
    }
    write('package.json', '{ "type": "module" }')
    write('server.ts', server.code)
    // at once, so that they differ
    const ports = await Promise.all(all.map(() => freePort()))
    for (const [index, { code }] of all.entries()) {
      write(`program${index}.ts`, code.replace('3000', String(ports[index])).replace("'sessions.db'", sessions))
    }
    write('all.ts', all.map((_, index) => `import './program${index}.js'\n`).join(''))
    return { file: join(place, 'all.ts'), ports }
  }
})

it.each(['v1', 'v2'])(
  'the Express server with the SDK’s transport and an event store, with line %s: a stream resumes',
  async (line) => {
    const port = await freePort()
    const env = { PORT: String(port), EVENTS: join(folder(), 'events.db') }
    await started([`examples/express-transport/${line}-events.js`], [port], env)
    const send = (method: string, headers: Record<string, string>, body?: unknown) =>
      fetch(`http://127.0.0.1:${port}/mcp`, {
        method,
        headers: {
          accept: 'application/json, text/event-stream',
          'content-type': 'application/json',
          'mcp-protocol-version': '2025-11-25',
          ...headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
    const initialize = async () => {
      const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'docs', version: '1.0.0' } }
      const answer = await send('POST', {}, { jsonrpc: '2.0', id: 0, method: 'initialize', params })
      await answer.text()
      return { 'mcp-session-id': answer.headers.get('mcp-session-id') ?? '' }
    }
    const session = await initialize()
    const other = await initialize()
    const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'client' } }
    const whole = await (await send('POST', session, call)).text()
    const [first = '', last = ''] = [...whole.matchAll(/^id: (.+)$/gm)].map(([, id]) => id)
    expect(whole).toContain('docs 1.0.0')
    expect(last).not.toBe('')

    const resumed = await send('GET', { ...session, 'last-event-id': first })
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of resumed.body ?? []) {
      text += decoder.decode(chunk)
      if (text.includes('\n\n')) break
    }
    expect(text).toContain(`id: ${last}\n`)
    expect(text).toContain('docs 1.0.0')
    expect((await send('GET', { ...other, 'last-event-id': first })).status).toBe(400)
  },
)

describeWith('the server of the cluster examples', await redisUrl(), (url) => {
  it('serves one session on two nodes, says when it is ready, and ends on SIGTERM', async () => {
    const ports = [await freePort(), await freePort()]
    const nodes = await Promise.all(
      ports.map((port) => started(['examples/cluster/server.js'], [port], { PORT: String(port), REDIS_URL: url })),
    )
    const [here = 0, there = 0] = ports
    const caller = await connected(here)
    expect(await caller.call('visit')).toMatch(/^visit 1, node \S+$/)
    const answer = await fetch(`http://127.0.0.1:${there}/mcp`, {
      method: 'POST',
      headers: {
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
        'mcp-session-id': caller.sessionId() ?? '',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 'there', method: 'tools/call', params: { name: 'visit' } }),
    })
    expect(await answer.text()).toContain('visit 2')
    const ready = await fetch(`http://127.0.0.1:${there}/readyz`)
    expect([ready.status, await ready.json()]).toMatchObject([
      200,
      { ready: true, backend: 'available', liveSessions: 1 },
    ])
    expect((await fetch(`http://127.0.0.1:${there}/livez`)).status).toBe(200)
    expect(await Promise.all(nodes.map((node) => node.end('SIGTERM')))).toEqual([0, 0])
  })
})
