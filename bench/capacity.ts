/**
 * What a node holds when 10,000 come at once: `npx tsx bench/capacity.ts`, after a build. Sessions that are initialized, requests
 * that run, and streams that are open; with the default limits, and without any. Each row has a node of its own.
 */
import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { McpServer } from '@modelcontextprotocol/server'
import { createSessionHandler, type Limits } from 'mcp-roam'
import { answer, Child } from './ipc.js'

const MEBIBYTE = 1024 * 1024
/** Requests that are sent at a time. */
const AT_ONCE = 100
/** For the whole of it, in ms. */
const BOUND = 10 * 60_000

interface NodeState {
  port: number
  live: number
  streams: number
  refused: number
  rss: number
}

const NO_LIMITS: Partial<Limits> = {
  requests: Number.POSITIVE_INFINITY,
  streams: Number.POSITIVE_INFINITY,
  allStreams: Number.POSITIVE_INFINITY,
}

async function serve(limits: Partial<Limits>): Promise<void> {
  const factory = () => {
    const server = new McpServer({ name: 'waits', version: '1.0.0' })
    // Never answers: what runs stays.
    server.registerTool('wait', {}, () => new Promise<never>(() => {}))
    return server
  }
  const handler = createSessionHandler(factory, { limits, maxLiveSessions: 1_000_000 })
  const server = createServer(handler.node).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const state = async (): Promise<NodeState> => {
    // Twice, with a pause: what has been closed is garbage only after it.
    global.gc?.()
    await delay(200)
    global.gc?.()
    const { liveSessions, openStreams, refused } = await handler.status()
    const sum = Object.values(refused).reduce((a, b) => a + b)
    return { port, live: liveSessions, streams: openStreams, refused: sum, rss: process.memoryUsage.rss() }
  }
  answer<null, NodeState>(await state(), state)
}

const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })

/** The head of the answer; undefined: there was none yet, and the request was left open. */
async function send(port: number, method: string, body: object | undefined, id?: string, patience?: number) {
  const headers = {
    accept: 'application/json, text/event-stream',
    ...(body && { 'content-type': 'application/json' }),
    ...(id && { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' }),
  }
  const own = patience === undefined ? { agent } : { agent: false as const }
  const req = request({ port, host: '127.0.0.1', path: '/mcp', method, headers, ...own })
  req.on('error', () => {})
  req.end(body && JSON.stringify({ jsonrpc: '2.0', ...body }))
  const answered = once(req, 'response').then(([res]) => res as IncomingMessage)
  const res = await (patience === undefined ? answered : Promise.race([answered, delay(patience)]))
  res?.on('error', () => {}).resume()
  return res
}

const INITIALIZE = {
  id: 0,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } },
}

async function initialize(port: number): Promise<string> {
  const res = await send(port, 'POST', INITIALIZE)
  if (res?.statusCode !== 200) throw new Error(`initialize: ${res?.statusCode}`)
  if (!res.readableEnded) await once(res, 'end')
  return String(res.headers['mcp-session-id'])
}

async function each(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

/** What 10,000 of something add to a node that has its sessions. */
async function row(
  name: string,
  limits: Partial<Limits>,
  sessions: number,
  work?: (port: number, ids: string[]) => Promise<void>,
): Promise<void> {
  const args = ['node', JSON.stringify(Object.keys(limits).length > 0)]
  const { child, hello } = await Child.start<null, NodeState>('node', './capacity.ts', args, ['--expose-gc'])
  try {
    const ids: string[] = []
    await each(sessions, async () => ids.push(await initialize(hello.port)))
    const before = await child.ask(null)
    await work?.(hello.port, ids)
    const after = await child.ask(null)
    const from = work ? before : hello
    const mib = (bytes: number) => (bytes / MEBIBYTE).toFixed(0).padStart(5)
    console.log(
      `${name.padEnd(62)} ${mib(from.rss)} → ${mib(after.rss)} MiB   ` +
        `${after.live} live, ${after.streams} streams, ${after.refused} refused`,
    )
  } finally {
    await child.stop()
  }
}

async function run(): Promise<void> {
  const { values } = parseArgs({ options: { count: { type: 'string', default: '10000' } } })
  const count = Number(values.count)
  setTimeout(() => {
    console.error(`not done in ${BOUND / 1000} s`)
    process.exit(1)
  }, BOUND).unref()
  /** Calls that never end, each on a connection of its own. */
  const calls = (port: number, ids: string[]) =>
    each(count, (i) => {
      const call = { id: i + 1, method: 'tools/call', params: { name: 'wait' } }
      return send(port, 'POST', call, ids[i % ids.length], 1000)
    })
  const gets = (port: number, ids: string[]) =>
    each(count, (i) => send(port, 'GET', undefined, ids[i % ids.length], 10_000))
  await row(`${count} initialize`, {}, count)
  await row(`${count} calls of one session, default limits`, {}, 1, calls)
  await row(`${count} calls of one session, no limits`, NO_LIMITS, 1, calls)
  await row(`${count} calls of as many sessions`, {}, count, calls)
  await row(`${count} GETs of one session: each replaces the one before`, {}, 1, gets)
  await row(`${count} GETs of as many sessions`, {}, count, gets)
  process.exit(0)
}

if (process.argv[2] === 'node') await serve(process.argv[3] === 'true' ? NO_LIMITS : {})
else await run()
