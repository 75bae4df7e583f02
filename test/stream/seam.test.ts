/**
 * The seam between a stream's log and its connection: a client that goes and comes back at every point between two events gets
 * each of them once, in order (contract, invariant 4).
 *
 * Each run is drawn from a number; a failure names it. `SEED=… npx vitest run test/stream/seam` begins with that one,
 * `RUNS=…` sets how many there are.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Backend, createSessionHandler, type SessionHandler } from '../../src/index.js'
import { type BackendName, describeBackends, type Place } from '../harness/backends.js'
import { type Gate, type GatedBackend, gated } from '../harness/gated-backend.js'
import { type Random, seeded } from '../harness/random.js'
import type { Reply } from '../harness/reply.js'
import { type ScriptedServer, scripted, UNANSWERED } from '../harness/scripted-server.js'
import type { SseBlock } from '../harness/sse.js'
import { openSession, type WireClient } from '../harness/wire-client.js'
import { within } from '../harness/within.js'

const { SEED, RUNS } = process.env
/** Longest wait for an event that should come at once, in ms: one that is found only by looking into the log every 3 s came too late. */
const PATIENCE = 2500
/** How many runs of each kind there are. */
const TIMES: Record<BackendName, number> = { memory: 2000, SQLite: 200, Redis: 300, PostgreSQL: 300 }

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
      factory.received.all.length = 0
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
  #reply: Reply | undefined
  #heard: () => void = () => {}

  /** Reads from a connection until the client leaves it. */
  follow(reply: Reply): void {
    this.#reply = reply
    void (async () => {
      for (;;) {
        const block = await reply.block()
        // what comes after the client has left is lost
        if (this.#reply !== reply) return
        if (block) this.#read(block)
        else this.#reply = undefined
        this.#heard()
        if (!block) return
      }
    })()
  }

  get connected(): boolean {
    return this.#reply !== undefined
  }

  /** Leaves the connection, with all that is on its way; `politely`: the server is told. */
  leave(politely: boolean): void {
    const reply = this.#reply
    this.#reply = undefined
    if (politely) void reply?.leave()
  }

  #read({ id, message }: SseBlock): void {
    if (id !== undefined) this.lastEventId = id
    if (message) this.got.push(message.result ? 'result' : message.params.data)
  }

  /** Resolves when it is so; false: it was not in time. */
  async until(is: () => boolean): Promise<boolean> {
    const watch = async () => {
      while (!is()) {
        await new Promise<void>((resolve) => {
          this.#heard = resolve
        })
      }
      return true
    }
    return within(watch(), 'news', PATIENCE).catch(is)
  }
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
  reader.leave(random.chance(0.7))
  const { handler } = random.pick(nodes)
  const cursor = reader.lastEventId
  const attempt = ++reader.attempts
  const arrived = client
    .on(handler)
    .get(cursor)
    .then((reply) => {
      // 204: a stream that ended meanwhile, and of which nothing is left
      if (reply.status === 200) {
        // the client has come back a second time while it was on its way
        if (attempt === reader.attempts) reader.follow(reply)
        else void reply.leave()
      } else if (reply.status !== 204) throw new Error(`GET: ${reply.status} for ${cursor}`)
    })
  // whoever waits for it, waits later
  arrived.catch(() => {})
  return arrived
}

/** Has something written, and the client come and go while it is. */
async function cross(seam: Seam, writer: Node, write: () => void, expected: number): Promise<void> {
  const { random, reader } = seam
  const moment = random.pick(MOMENTS)
  const { calls } = writer.backend
  const arrivals: Promise<void>[] = []
  const back = async () => {
    const arrived = comeBack(seam)
    arrivals.push(arrived)
    // or what is held up goes on while the client is on its way
    if (random.chance(0.5)) await arrived
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
    const enough = expected - random.below(2)
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
  const writer = random.pick(nodes)
  const client = await openSession(writer.handler)
  const reader = new Reader()
  const params = { name: 'x', arguments: {} }
  reader.follow(await client.open({ id: 1, method: 'tools/call', params }))
  const server = writer.server(client.sessionId)
  const { message: call } = await server.got('tools/call')
  expect(await reader.until(() => reader.lastEventId !== undefined), 'a cursor').toBe(true)
  const seam: Seam = { reader, random, nodes, client }
  const expected: unknown[] = []
  const events = random.between(1, 4)
  for (let event = 0; event < events; event++) {
    const burst = random.between(1, 3)
    const write = () => {
      for (let i = 0; i < burst; i++) {
        expected.push(expected.length)
        void server.say(expected.length - 1, 1)
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
  const client = await openSession(random.pick(nodes).handler)
  // an instance everywhere
  for (const { handler } of nodes) await client.on(handler).request('ping')
  const reader = new Reader()
  const seam: Seam = { reader, random, nodes, client }
  await comeBack(seam)
  expect(await reader.until(() => reader.lastEventId !== undefined), 'a cursor').toBe(true)
  const expected: string[] = []
  const events = random.between(2, 5)
  for (let event = 0; event < events; event++) {
    const writer = random.pick(nodes)
    const server = writer.server(client.sessionId)
    const burst = random.between(1, 3)
    const write = () => {
      for (let i = 0; i < burst; i++) {
        const data = `${nodes.indexOf(writer)}:${expected.length}`
        expected.push(data)
        void server.say(data)
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

/** Two nodes on one backend, for all runs. */
describeBackends((open, name) => {
  let place: Place
  let nodes: Node[]
  beforeAll(() => {
    place = open()
    nodes = place.backends.map(node)
  })
  afterAll(async () => {
    await Promise.all(nodes.map(({ handler }) => handler.close()))
    await place.close()
  })

  const scenes = { 'the answer to a POST': answerOfPost, 'the standalone stream': standalone }
  test.each(Object.entries(scenes))('%s comes once, in order', { timeout: 120_000 }, async (_, scene) => {
    const first = SEED ? Number(SEED) : 1
    const times = RUNS ? Number(RUNS) : TIMES[name]
    for (let seed = first; seed < first + times; seed++) {
      // a run that hangs is a failure with a seed, too
      await within(scene(nodes, seeded(seed)), 'the end of the run', 4 * PATIENCE).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
      })
    }
  })
})
