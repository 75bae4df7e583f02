/**
 * What open streams cost one node: `npx tsx bench/streams.ts`, after a build. First 10,000 sessions are called, so that each has
 * a server instance; then each opens its standalone stream. Then one reader that reads nothing is sent 64 MiB: it must be cut
 * off, and the node must not have kept for it more than it may.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, createServer, type IncomingMessage, request } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { McpServer } from '@modelcontextprotocol/server'
import { createSessionHandler } from 'mcp-roam'
import { sqlite } from 'mcp-roam/sqlite'
import { answer, Child } from './ipc.js'
import { echoV2 } from './servers/echo.js'
import { fill } from './sessions/store.js'

const MEBIBYTE = 1024 * 1024
/** Streams opened at a time. */
const AT_ONCE = 100
/** For the whole of it, in ms. */
const BOUND = 5 * 60_000
const NOTE = 64 * 1024

interface NodeState {
  port: number
  streams: number
  rss: number
  heapUsed: number
  /** Buffers outside of the heap. */
  external: number
}

/** Either what the node holds, or to send so many notes to the session that was made live last. */
type Question = { flood: number } | { collect: boolean }

async function serve(file: string): Promise<void> {
  let last: McpServer | undefined
  const factory = () => {
    last = echoV2()
    return last
  }
  const handler = createSessionHandler(factory, { backend: sqlite({ file }), maxLiveSessions: 1_000_000 })
  const server = createServer(handler.node).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  async function state(collect: boolean): Promise<NodeState> {
    // Twice, with a pause: what has been closed is garbage only after it.
    if (collect) {
      global.gc?.()
      await delay(200)
      global.gc?.()
    }
    const { rss, heapUsed, external } = process.memoryUsage()
    return { port, streams: (await handler.status()).openStreams, rss, heapUsed, external }
  }

  answer<Question, NodeState>(await state(true), async (question) => {
    if ('collect' in question) return state(question.collect)
    for (let i = 0; i < question.flood; i++) {
      const params = { progressToken: 'flood', progress: i, message: 'x'.repeat(NOTE) }
      await last?.server.notification({ method: 'notifications/progress', params })
      // as fast as it goes, but in turns with the rest
      await new Promise(setImmediate)
    }
    // what is only garbage is not held
    global.gc?.()
    return state(false)
  })
}

async function run(): Promise<void> {
  const { values } = parseArgs({
    options: { streams: { type: 'string', default: '10000' }, json: { type: 'boolean', default: false } },
  })
  const count = Number(values.streams)
  const directory = mkdtempSync(join(tmpdir(), 'mcp-roam-bench-'))
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  setTimeout(() => {
    console.error(`not done in ${BOUND / 1000} s`)
    process.exit(1)
  }, BOUND).unref()

  const file = join(directory, 'streams.db')
  const ids = await fill(file, count + 1, count + 1)
  const slow = ids.pop() ?? ''
  const { child, hello: started } = await startNode(file)
  try {
    const { port } = started
    await each(ids, (id) => ping(port, id))
    const live = await child.ask({ collect: true })
    const begun = performance.now()
    const open: IncomingMessage[] = []
    await each(ids, async (id) => void open.push(await stream(port, id)))
    const took = performance.now() - begun
    const streaming = await child.ask({ collect: true })
    if (streaming.streams !== count) throw new Error(`${streaming.streams} of ${count} streams are open`)
    const result = {
      ...{ node: process.version, count, openingMs: Math.round(took) },
      instance: per(count, started, live),
      stream: per(count, live, streaming),
      reader: await slowReader(file, slow),
    }
    if (values.json) console.log(JSON.stringify(result, null, 2))
    else print(result, { started, live, streaming })
    for (const each of open) each.destroy()
  } finally {
    await child.stop()
  }
}

type Bytes = Pick<NodeState, 'rss' | 'heapUsed' | 'external'>

/** Bytes that each of so many cost. */
function per(count: number, before: Bytes, after: Bytes): Bytes {
  const cost = (of: keyof Bytes) => Math.round((after[of] - before[of]) / count)
  return { rss: cost('rss'), heapUsed: cost('heapUsed'), external: cost('external') }
}

async function each(ids: readonly string[], work: (id: string) => Promise<void>): Promise<void> {
  const left = [...ids]
  const worker = async () => {
    for (let id = left.pop(); id !== undefined; id = left.pop()) await work(id)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })
const headersOf = (id: string) => ({
  'mcp-session-id': id,
  'mcp-protocol-version': '2025-11-25',
  accept: 'application/json, text/event-stream',
  'content-type': 'application/json',
})

async function ping(port: number, id: string): Promise<void> {
  const req = request({ port, host: '127.0.0.1', path: '/mcp', method: 'POST', headers: headersOf(id), agent })
  req.end('{"jsonrpc":"2.0","id":1,"method":"ping"}')
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  if (res.statusCode !== 200) throw new Error(`ping: ${res.statusCode}`)
  res.resume()
  await once(res, 'end')
}

/** Open, and its first event read. */
async function stream(port: number, id: string): Promise<IncomingMessage> {
  const req = request({ port, host: '127.0.0.1', path: '/mcp', headers: headersOf(id), agent: false }).end()
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  if (res.statusCode !== 200) throw new Error(`stream: ${res.statusCode}`)
  res.on('error', () => {})
  await once(res, 'data')
  res.resume()
  return res
}

function startNode(file: string) {
  // A file descriptor for each stream, on either side; node raises its soft limit to the hard one by itself.
  return Child.start<Question, NodeState>('node', './streams.ts', ['node', file], ['--expose-gc'])
}

/** Sends 64 MiB to a reader that takes nothing: when it was cut off, and the most that the node held meanwhile. */
async function slowReader(file: string, id: string) {
  // a node of its own, whose heap is small, so that what is held shows
  const { child, hello } = await startNode(file)
  try {
    return await starve(child, hello.port, id)
  } finally {
    await child.stop()
  }
}

async function starve(child: Child<Question, NodeState>, port: number, id: string) {
  await ping(port, id)
  const before = await child.ask({ collect: true })
  const lines = Object.entries(headersOf(id)).map(([name, value]) => `${name}: ${value}\r\n`)
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  // Paused, nothing is ever read: not even the end would be seen. The node says when it has let go.
  socket.pause()
  socket.on('error', () => {})
  socket.write(`GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n${lines.join('')}\r\n`)
  while ((await child.ask({ collect: false })).streams <= before.streams) await delay(20)
  const begun = performance.now()
  const most: Bytes = { rss: 0, heapUsed: 0, external: 0 }
  const note = (state: NodeState) => {
    for (const of of ['rss', 'heapUsed', 'external'] as const) most[of] = Math.max(most[of], state[of] - before[of])
    return state
  }
  let cutAfter: number | undefined
  const chunk = 32
  for (let sent = 0; sent < (64 * MEBIBYTE) / NOTE; sent += chunk) {
    const { streams } = note(await child.ask({ flood: chunk }))
    if (streams <= before.streams) cutAfter ??= performance.now() - begun
  }
  while (cutAfter === undefined) {
    if (note(await child.ask({ collect: false })).streams <= before.streams) cutAfter = performance.now() - begun
    else if (performance.now() - begun > 60_000) throw new Error('the reader was not cut off')
    else await delay(50)
  }
  socket.destroy()
  const after = await child.ask({ collect: true })
  const left = {
    rss: after.rss - before.rss,
    heapUsed: after.heapUsed - before.heapUsed,
    external: after.external - before.external,
  }
  return { cutAfterMs: Math.round(cutAfter), most, left }
}

function print(
  result: {
    count: number
    openingMs: number
    instance: Bytes
    stream: Bytes
    reader: Awaited<ReturnType<typeof slowReader>>
  },
  states: Record<string, NodeState>,
): void {
  const { count, openingMs, instance, stream, reader } = result
  const mib = (bytes: number) => `${(bytes / MEBIBYTE).toFixed(1)} MiB`
  const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`
  const line = (bytes: Bytes, unit: (bytes: number) => string) =>
    `${unit(bytes.rss)} resident, ${unit(bytes.heapUsed)} heap, ${unit(bytes.external)} buffers`
  for (const [name, state] of Object.entries(states)) console.log(`${name.padEnd(12)}${line(state, mib)}`)
  console.log(`\n${count} streams opened in ${(openingMs / 1000).toFixed(1)} s`)
  console.log(`each live session  ${line(instance, kib)}`)
  console.log(`each open stream   ${line(stream, kib)}`)
  console.log(`a reader that takes nothing of 64 MiB is cut off after ${reader.cutAfterMs} ms`)
  console.log(`  most held        ${line(reader.most, mib)}`)
  console.log(`  left afterwards  ${line(reader.left, mib)}`)
}

if (process.argv[2] === 'node') await serve(process.argv[3] ?? '')
else await run()
