/**
 * The seam between a stream's log and its connection: a client that goes and comes back at every point between two events gets
 * each of them once, in order (contract, invariant 4).
 *
 * Each run is drawn from a number; a failure names it. `SEED=… npx vitest run test/stream/seam` begins with that one,
 * `RUNS=…` sets how many there are.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { postgres } from '../../src/backend/postgres.js'
import { redis } from '../../src/backend/redis.js'
import { sqlite } from '../../src/backend/sqlite.js'
import { createSessionHandler, type SessionHandler } from '../../src/index.js'
import { randomFrom } from '../model/network.js'
import { describeWith, postgresUrl, redisUrl, unique } from '../services/use.js'
import { type Gate, type GatedBackend, gated } from '../session/gated-store.js'
import { type ScriptedServer, scripted, UNANSWERED } from '../session/scripted-server.js'
import { openSession, type WireClient } from '../session/wire-client.js'

const { SEED, RUNS } = process.env
/** Longest wait for an event that should come at once, in ms: one that is found only by looking into the log every 3 s came too late. */
const PATIENCE = 2500

interface Node {
  handler: SessionHandler
  backend: GatedBackend
  /** The instance of a session. */
  server(session: string): ScriptedServer
}

function node(inner: Backend): Node {
  const servers = new Map<string, ScriptedServer>()
  const factory = scripted({ 'tools/call': () => UNANSWERED })
  const backend = gated(inner)
  const handler = createSessionHandler(
    async (context) => {
      const server = await factory(context)
      servers.set(context.session.id, server)
      // thousands of instances come and go
      factory.servers.length = 0
      return server
    },
    { backend, responseMode: 'sse', retryInterval: 0, keepAlive: 0 },
  )
  return { handler, backend, server: (session) => servers.get(session) as ScriptedServer }
}

/** What a client has of one stream, over all its connections. */
class Reader {
  readonly got: unknown[] = []
  lastEventId: string | undefined
  /** How often the client has come back. */
  attempts = 0
  #body: ReadableStreamDefaultReader<Uint8Array> | undefined
  #heard: () => void = () => {}

  /** Reads from a connection until the client leaves it. */
  follow(response: Response): void {
    const body = (response.body as ReadableStream<Uint8Array>).getReader()
    this.#body = body
    void (async () => {
      const decoder = new TextDecoder()
      for (let text = ''; ; ) {
        const { done, value } = await body.read()
        // what comes after the client has left is lost
        if (this.#body !== body) return
        if (done) {
          this.#body = undefined
          return this.#heard()
        }
        text += decoder.decode(value, { stream: true })
        for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
          this.#read(text.slice(0, end))
          text = text.slice(end + 2)
        }
        this.#heard()
      }
    })()
  }

  get connected(): boolean {
    return this.#body !== undefined
  }

  /** Leaves the connection, with all that is on its way; `politely`: the server is told. */
  leave(politely: boolean): void {
    const body = this.#body
    this.#body = undefined
    if (politely) void body?.cancel()
  }

  #read(block: string): void {
    const id = /^id: (.*)$/m.exec(block)?.[1]
    const data = /^data: (.+)$/m.exec(block)?.[1]
    if (id !== undefined) this.lastEventId = id
    if (data === undefined) return
    const { params, result } = JSON.parse(data)
    this.got.push(result ? 'result' : params.data)
  }

  async until(is: () => boolean): Promise<boolean> {
    const deadline = Date.now() + PATIENCE
    while (!is()) {
      const left = deadline - Date.now()
      if (left <= 0) return false
      let timer: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        this.#heard = resolve
        timer = setTimeout(resolve, left)
      })
      clearTimeout(timer)
    }
    return true
  }
}

type Random = () => number

function pick<T>(random: Random, all: readonly T[]): T {
  return all[Math.floor(random() * all.length)] as T
}

/** Where in the life of an event a client goes away and comes back. */
const MOMENTS = ['never', 'before the append', 'between log and socket', 'after', 'twice'] as const

interface Seam {
  reader: Reader
  random: Random
  nodes: Node[]
  client: WireClient
}

/** The client loses its connection and comes back somewhere; resolves when it is there. */
function comeBack({ reader, random, nodes, client }: Seam): Promise<void> {
  reader.leave(random() < 0.7)
  const { handler } = pick(random, nodes)
  const cursor = reader.lastEventId
  const attempt = ++reader.attempts
  const arrived = client
    .on(handler)
    .send('GET', undefined, { headers: cursor === undefined ? {} : { 'last-event-id': cursor } })
    .then((response) => {
      // 204: a stream that ended meanwhile, and of which nothing is left
      if (response.status === 200) {
        // the client has come back a second time while it was on its way
        if (attempt === reader.attempts) reader.follow(response)
        else void response.body?.cancel()
      } else if (response.status !== 204) throw new Error(`GET: ${response.status} for ${cursor}`)
    })
  // whoever waits for it, waits later
  arrived.catch(() => {})
  return arrived
}

/** Has something written, and the client come and go while it is. */
async function cross(seam: Seam, writer: Node, write: () => void, expected: number): Promise<void> {
  const { random, reader } = seam
  const moment = pick(random, MOMENTS)
  const { calls } = writer.backend
  const arrivals: Promise<void>[] = []
  const back = async () => {
    const arrived = comeBack(seam)
    arrivals.push(arrived)
    // or what is held up goes on while the client is on its way
    if (random() < 0.5) await arrived
  }
  let gate: Gate | undefined
  if (moment === 'before the append' || moment === 'twice') gate = calls.hold('events.append')
  else if (moment === 'between log and socket') gate = calls.holdAnswer('events.append')
  write()
  if (gate) {
    await gate.reached
    await back()
    gate.open()
  }
  if (moment === 'twice') await back()
  if (moment === 'after') {
    const enough = expected - Math.floor(random() * 2)
    await reader.until(() => reader.got.length >= enough || !reader.connected)
    await back()
  }
  await Promise.all(arrivals)
}

/** Follows a stream to what should be its end. */
async function followToEnd(seam: Seam, done: () => boolean): Promise<void> {
  const { reader } = seam
  for (let tries = 0; tries < 20 && !done(); tries++) {
    if (!reader.connected) await comeBack(seam)
    if (!(await reader.until(() => done() || !reader.connected))) return
  }
}

/** The answer to one POST. */
async function answerOfPost(nodes: Node[], random: Random): Promise<void> {
  const writer = pick(random, nodes)
  const client = await openSession(writer.handler)
  const reader = new Reader()
  const params = { name: 'x', arguments: {} }
  reader.follow(await client.send('POST', { jsonrpc: '2.0', id: 1, method: 'tools/call', params }))
  const server = writer.server(client.sessionId)
  const call = await server.got('tools/call')
  expect(await reader.until(() => reader.lastEventId !== undefined), 'a cursor').toBe(true)
  const seam: Seam = { reader, random, nodes, client }
  const expected: unknown[] = []
  const events = 1 + Math.floor(random() * 4)
  for (let event = 0; event < events; event++) {
    const burst = 1 + Math.floor(random() * 3)
    const write = () => {
      for (let i = 0; i < burst; i++) {
        expected.push(expected.length)
        void server.notify('notifications/message', { level: 'info', data: expected.length - 1 }, 1)
      }
    }
    await cross(seam, writer, write, expected.length + burst)
  }
  expected.push('result')
  await cross(seam, writer, () => void server.respond(call), expected.length)
  await followToEnd(seam, () => reader.got.includes('result'))
  expect(reader.got).toEqual(expected)
  await client.on(writer.handler).delete()
}

/** The standalone stream, which all nodes write. */
async function standalone(nodes: Node[], random: Random): Promise<void> {
  const client = await openSession(pick(random, nodes).handler)
  // an instance everywhere
  for (const { handler } of nodes) await client.on(handler).request('ping')
  const reader = new Reader()
  const seam: Seam = { reader, random, nodes, client }
  await comeBack(seam)
  expect(await reader.until(() => reader.lastEventId !== undefined), 'a cursor').toBe(true)
  const expected: string[] = []
  const events = 2 + Math.floor(random() * 4)
  for (let event = 0; event < events; event++) {
    const writer = pick(random, nodes)
    const server = writer.server(client.sessionId)
    const burst = 1 + Math.floor(random() * 3)
    const write = () => {
      for (let i = 0; i < burst; i++) {
        const data = `${nodes.indexOf(writer)}:${expected.length}`
        expected.push(data)
        void server.notify('notifications/message', { level: 'info', data })
      }
    }
    await cross(seam, writer, write, expected.length + burst)
  }
  await followToEnd(seam, () => reader.got.length >= expected.length)
  expect([...reader.got].sort()).toEqual([...expected].sort())
  // what one node sends keeps its order; between nodes, the log decides
  for (const from of nodes.keys()) {
    const of = (all: unknown[]) => all.filter((data) => String(data).startsWith(`${from}:`))
    expect(of(reader.got)).toEqual(of(expected))
  }
  await client.on(nodes[0]!.handler).delete()
}

/** A run that hangs is a failure with a seed, too. */
async function inTime(run: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the run never ended')), 4 * PATIENCE)
  })
  await Promise.race([run, late]).finally(() => clearTimeout(timer))
}

interface Place {
  backends: (Backend & { close?(): Promise<void> })[]
  release?(): Promise<void>
}

/** Two nodes on one backend, for all runs. */
function suite(name: string, runs: number, open: () => Promise<Place>): void {
  describe(name, () => {
    let place: Place
    let nodes: Node[]
    beforeAll(async () => {
      place = await open()
      nodes = place.backends.map(node)
    })
    afterAll(async () => {
      await Promise.all(nodes.map(({ handler }) => handler.close()))
      await Promise.all(place.backends.map((backend) => backend.close?.()))
      await place.release?.()
    })

    const scenes = { 'the answer to a POST': answerOfPost, 'the standalone stream': standalone }
    test.each(Object.entries(scenes))('%s comes once, in order', { timeout: 120_000 }, async (_, scene) => {
      const first = SEED ? Number(SEED) : 1
      const times = RUNS ? Number(RUNS) : runs
      for (let seed = first; seed < first + times; seed++) {
        await inTime(scene(nodes, randomFrom(seed))).catch((error: unknown) => {
          throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
        })
      }
    })
  })
}

suite('memory', 2000, async () => {
  const shared = memory()
  return { backends: [shared, shared] }
})

suite('sqlite', 200, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-roam-seam-'))
  const file = join(folder, 'seam.db')
  return {
    backends: [sqlite({ file }), sqlite({ file })],
    release: () => rm(folder, { recursive: true }),
  }
})

const [redisAt, postgresAt] = await Promise.all([redisUrl(), postgresUrl()])

describeWith('with Redis', redisAt, (url) => {
  const prefix = unique()
  suite('redis', 300, async () => ({ backends: [redis({ url, prefix }), redis({ url, prefix })] }))
})

describeWith('with PostgreSQL', postgresAt, (url) => {
  const schema = unique()
  suite('postgres', 300, async () => ({ backends: [postgres({ url, schema }), postgres({ url, schema })] }))
})
