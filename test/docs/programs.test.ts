/** The programs of the documentation do what it says: they serve, and their sessions survive them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { describeWith, redisUrl } from '../services/use.js'
import { type Block, inLanguage, ROOT } from './blocks.js'
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

async function started(args: string[], ports: number[], env: Record<string, string>): Promise<Program> {
  const program = new Program(args, ports, env)
  ends.push(() => program.end('SIGKILL'))
  await program.start()
  return program
}

async function connected(port: number): Promise<Caller> {
  const caller = await connect(port)
  ends.push(() => caller.close())
  return caller
}

it('the minimal server’s sessions survive it, and SIGTERM ends it', { timeout: 30_000 }, async () => {
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

it.each(['v1', 'v2'])(
  'the Express server with transports of its own, after the change, with line %s',
  {
    timeout: 30_000,
  },
  async (line) => {
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
  },
)

it('the Express server before the change forgets its sessions', { timeout: 30_000 }, async () => {
  const port = await freePort()
  const program = await started(['examples/express-transport/v1-before.js'], [port], { PORT: String(port) })
  const caller = await connected(port)
  expect(await caller.call('client')).toBe('docs 1.0.0')
  await program.end('SIGKILL')
  await program.start()
  await expect(caller.call('client')).rejects.toThrow('session')
})

it.each([0, 1])(
  'the adoption snippets of the README serve, with server.ts number %i',
  { timeout: 60_000 },
  async (line) => {
    const blocks = inLanguage('ts').filter(({ file }) => file === 'README.md')
    const server = blocks.filter(({ code }) => code.startsWith('// server.ts\n'))[line] as Block
    const snippets = blocks.filter(({ code }) => code.includes('3000'))
    expect(snippets).toHaveLength(4)

    // Inside the repository, so that packages are found; `mcp-roam` is what was built.
    const place = join(ROOT, `node_modules/.cache/mcp-roam-adoption-${line}`)
    rmSync(place, { recursive: true, force: true })
    mkdirSync(place, { recursive: true })
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
    const ports: number[] = []
    for (const [index, { code }] of snippets.entries()) {
      const port = await freePort()
      ports.push(port)
      write(`snippet${index}.ts`, code.replace('3000', String(port)).replace("'sessions.db'", sessions))
    }
    write('all.ts', snippets.map((_, index) => `import './snippet${index}.js'\n`).join(''))

    const program = await started(['--import', 'tsx', join(place, 'all.ts')], ports, {})
    const [first, ...others] = await Promise.all(ports.map((port) => connected(port)))
    for (const caller of [first as Caller, ...others]) expect(await caller.call('hello')).toBe('Hello')
    await program.end('SIGKILL')
    await program.start()
    for (const caller of [first as Caller, ...others]) expect(await caller.call('hello')).toBe('Hello')
  },
)

it.each(['v1', 'v2'])(
  'the Express server with the SDK’s transport and an event store, with line %s: a stream resumes',
  {
    timeout: 30_000,
  },
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
  it('serves one session on two nodes, says when it is ready, and ends on SIGTERM', { timeout: 30_000 }, async () => {
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
