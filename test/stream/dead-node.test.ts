/** A stream whose node is gone is finished once, by a node where it is followed (contract: "Dead node", invariants 4 and 5). */
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { SessionHandlerOptions } from '../../src/index.js'
import type { JSONRPCRequest } from '../../src/wire/jsonrpc.js'
import { type SimulatedNode, World, type WorldOptions } from '../model/world.js'
import { type Script, type ScriptedServer, scripted, UNANSWERED } from '../session/scripted-server.js'
import { Driver, type DriverOptions, type Visit } from './driver.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

/** What `ClusterNode` promises: a node is taken for dead after 5 s, and looked for twice a second. */
const DEAD_AFTER = 6000
const UNKNOWN = {
  code: -32000,
  message: 'The server went away before it answered; the outcome of this request is unknown',
  data: { reason: 'outcome-unknown' },
}

interface Server extends ScriptedServer {
  node: string
}

let world: World
afterEach(() => world.end())

interface Cluster {
  A: SimulatedNode
  B: SimulatedNode
  C: SimulatedNode
  driver: Driver
  /** Instances by node. */
  on(node: string): ScriptedServer[]
  /** How often a request was handed to a server, anywhere. */
  times(method: string): number
}

type NodeScript = (node: string, restored: boolean) => Script

async function cluster(
  script: NodeScript,
  options: Omit<SessionHandlerOptions, 'principal'> &
    DriverOptions &
    Pick<WorldOptions, 'retention'> & { seed?: number } = {},
): Promise<Cluster> {
  const { principal, version, retention, seed = 1, ...handler } = options
  const built: Server[] = []
  world = new World({
    seed,
    ...(retention && { retention }),
    handler: { responseMode: 'sse', ...handler },
    factory: (node) => (context) => {
      const server = Object.assign(scripted(script(node, context.restored))(context) as ScriptedServer, { node })
      built.push(server)
      return server
    },
  })
  const [A, B, C] = world.nodes as [SimulatedNode, SimulatedNode, SimulatedNode]
  const driver = new Driver(world, { ...(principal && { principal }), ...(version && { version }) })
  await driver.open(A)
  return {
    A,
    B,
    C,
    driver,
    on: (node) => built.filter((server) => server.node === node),
    times: (method) => built.reduce((sum, server) => sum + server.all(method).length, 0),
  }
}

/** A tool of each kind; A never answers, others at once. */
const TOOLS = [
  { name: 'read', annotations: { readOnlyHint: true } },
  { name: 'repeat', annotations: { idempotentHint: true } },
  { name: 'plain' },
  { name: 'destroy', annotations: { destructiveHint: true, readOnlyHint: false, idempotentHint: false } },
]

/** A list in pages of one, as some servers have. */
function pages(message: JSONRPCRequest) {
  const page = Number(message.params?.cursor ?? 0)
  return { tools: [TOOLS[page]], ...(page + 1 < TOOLS.length && { nextCursor: String(page + 1) }) }
}

const hangOnA: NodeScript = (node) => ({
  'tools/list': pages,
  'tools/call': () => (node === 'A' ? UNANSWERED : { node }),
})

async function started({ driver, on }: Cluster, method: string): Promise<void> {
  await driver.until(() => on('A').some((server) => server.all(method).length > 0))
}

/** The log's events of the stream that a cursor is of. */
async function logOf({ driver }: Cluster, lastEventId: string | undefined) {
  const stream = lastEventId?.split('.')[1] as string
  const slice = await world.network.truth.events.read(driver.session as string, stream, 0, 1000)
  return { ...slice, messages: slice?.events.map(({ data }) => JSON.parse(data)) ?? [] }
}

/** A call on A, whose client has a cursor. */
async function called(on: Cluster, method: string, params?: Record<string, unknown>): Promise<Visit> {
  const call = on.driver.request(on.A, 7, method, params)
  await started(on, method)
  await on.driver.until(() => call.lastEventId !== undefined)
  return call
}

describe('a request whose node died', () => {
  const safe = [
    'ping',
    'tools/list',
    'prompts/list',
    'prompts/get',
    'resources/list',
    'resources/templates/list',
    'resources/read',
    'completion/complete',
  ]
  test.each(safe)('is run again under its id, in its stream: %s', async (method) => {
    const on = await cluster((node) => ({ [method]: () => (node === 'A' ? UNANSWERED : { node }) }))
    const call = await called(on, method)
    world.kill(on.A)
    const killedAt = world.clock.now
    await on.driver.until(() => call.broken)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(world.clock.now - killedAt).toBeLessThan(DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
    expect(resumed.lastEventId?.split('.')[1]).toBe(call.lastEventId?.split('.')[1])
    expect(on.times(method)).toBe(2)
    expect(await logOf(on, call.lastEventId)).toMatchObject({ ended: true, last: 1 })
  })

  test.each(['logging/setLevel', 'resources/subscribe', 'something/else'])(
    'is not run again if it may do something: %s',
    async (method) => {
      const on = await cluster((node) => ({ [method]: () => (node === 'A' ? UNANSWERED : {}) }))
      const call = await called(on, method, { level: 'info', uri: 'file:///x' })
      world.kill(on.A)
      await on.driver.until(() => call.broken)
      const resumed = on.driver.resume(on.B, call.lastEventId)
      await on.driver.until(() => resumed.ended, DEAD_AFTER)
      expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
      expect(on.times(method)).toBe(1)
    },
  )

  test.each([
    ['read', true],
    ['repeat', true],
    ['plain', false],
    ['destroy', false],
    ['unheard-of', false],
  ])('a call of the tool %s, found on some page of the list: run again: %s', async (name, again) => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name })
    world.kill(on.A)
    await on.driver.until(() => call.broken)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    const outcome = again ? { result: { node: 'B' } } : { error: UNKNOWN }
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, ...outcome }])
    expect(on.times('tools/call')).toBe(again ? 2 : 1)
  })

  test('a list that fails, or never ends, is no permission to repeat', async () => {
    const on = await cluster((node) => ({
      ...hangOnA(node, false),
      'tools/list': () => {
        throw new Error('no list today')
      },
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
  })

  test.each([
    ['widens', 'plain', true],
    ['forbids', 'read', false],
  ])('mayRepeat %s', async (_, name, again) => {
    const asked: unknown[] = []
    const on = await cluster(hangOnA, {
      mayRepeat: (request, safe) => {
        asked.push([request.method, request.params?.name, safe])
        return !safe
      },
    })
    const call = await called(on, 'tools/call', { name })
    world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(asked).toEqual([['tools/call', name, !again]])
    expect(resumed.messages[0]).toHaveProperty(again ? 'result' : 'error')
  })

  test('is finished when its client comes back hours later', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    world.kill(on.A)
    await world.clock.pass(50 * 60_000)
    const resumed = on.driver.resume(on.C, call.lastEventId)
    await on.driver.until(() => resumed.ended, 1500)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'C' } }])
  })

  test('is finished on the node where it is followed already', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await world.clock.pass(8000)
    expect(resumed.messages).toEqual([])
    world.kill(on.A)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
  })

  test('that is answered in the log but for the end, ends', async () => {
    const on = await cluster((node) => ({ 'tools/call': (_, server) => (node === 'A' ? last(server) : {}) }))
    const last = (server: ScriptedServer) =>
      server.notify('notifications/message', { data: 1 }, 7).then(() => UNANSWERED)
    const call = await called(on, 'tools/call', { name: 'read' })
    await on.driver.until(() => call.messages.length === 1)
    world.kill(on.A)
    // what the dying node had still sent arrives after it
    const stream = call.lastEventId?.split('.')[1] as string
    const { events } = world.network.truth
    const info = await events.read(on.driver.session as string, stream, 0, 1)
    const answer = JSON.stringify({ jsonrpc: '2.0', id: 7, result: {} })
    const batch = { id: 'late', events: [answer], ...(info?.writer && { writer: info.writer }) }
    expect(await events.append(on.driver.session as string, stream, batch)).toBe(2)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: {} }])
    expect(await logOf(on, call.lastEventId)).toMatchObject({ ended: true, last: 2 })
  })

  test('its progress goes on where it was, never back', async () => {
    const work = async (server: ScriptedServer, from: number, to: number) => {
      for (let progress = from; progress <= to; progress++) {
        await server.notify('notifications/progress', { progressToken: 't', progress }, 7)
      }
    }
    const on = await cluster((node) => ({
      'resources/read': async (_, server) => {
        await work(server, 1, node === 'A' ? 3 : 5)
        return node === 'A' ? UNANSWERED : { node }
      },
    }))
    const call = await called(on, 'resources/read', { uri: 'x', _meta: { progressToken: 't' } })
    await on.driver.until(() => call.messages.length === 3)
    world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    const all = [...call.messages, ...resumed.messages]
    expect(all.map(({ params, result }) => params?.progress ?? result)).toEqual([1, 2, 3, 4, 5, { node: 'B' }])
  })

  test('one of a batch that was partly answered: only the rest', async () => {
    const on = await cluster(
      (node) => ({
        'tools/list': pages,
        'tools/call': ({ params }) => (node === 'A' && params?.slow ? UNANSWERED : { node }),
      }),
      { version: '2025-03-26' },
    )
    const ask = (id: number, name: string, slow: boolean) => ({
      jsonrpc: '2.0',
      id,
      method: 'tools/call',
      params: { name, slow },
    })
    const batch = [ask(1, 'read', false), ask(2, 'read', true), ask(3, 'plain', true), ask(4, 'plain', false)]
    const call = on.driver.post(on.A, batch)
    await on.driver.until(() => call.messages.length === 2)
    world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(call.messages.map(({ id }) => id)).toEqual([1, 4])
    expect(resumed.messages.sort((one, other) => one.id - other.id)).toEqual([
      { jsonrpc: '2.0', id: 2, result: { node: 'B' } },
      { jsonrpc: '2.0', id: 3, error: UNKNOWN },
    ])
    expect(on.times('tools/call')).toBe(5)
  })
})

describe('several who could finish a stream', () => {
  test('two nodes, on each of which the client turns up: one of them finishes it', async () => {
    let ranOnB = 0
    let ranOnC = 0
    for (let seed = 0; seed < 200; seed++) {
      if (seed > 0) world.end()
      const on = await cluster(hangOnA, { seed })
      const call = await called(on, 'tools/call', { name: 'read' })
      world.kill(on.A)
      await world.clock.pass(seed % 2 ? 6000 : 4800)
      const visits = [on.B, on.C, on.B, on.C].map((node) => on.driver.resume(node, call.lastEventId))
      await on.driver.until(() => visits.some(({ messages }) => messages.length > 0), 15_000, `seed ${seed}`)
      await world.clock.pass(1000)
      expect(on.times('tools/call'), `seed ${seed}`).toBe(2)
      ranOnB += on.on('B').reduce((sum, server) => sum + server.all('tools/call').length, 0)
      ranOnC += on.on('C').reduce((sum, server) => sum + server.all('tools/call').length, 0)
      const log = await logOf(on, call.lastEventId)
      expect(log.messages, `seed ${seed}`).toHaveLength(1)
      // one connection a stream: the message went out on one of them
      expect(
        visits.flatMap(({ messages }) => messages),
        `seed ${seed}`,
      ).toEqual(log.messages)
    }
    // or the test would not have been one
    expect(Math.min(ranOnB, ranOnC)).toBeGreaterThan(10)
  })

  test('two nodes that hear nothing of each other: one of them finishes it', async () => {
    for (let seed = 0; seed < 100; seed++) {
      if (seed > 0) world.end()
      const slowly: NodeScript = (node) => ({
        'tools/list': pages,
        'tools/call': () =>
          node === 'A' ? UNANSWERED : new Promise((resolve) => setTimeout(() => resolve({ node }), 1500)),
      })
      const on = await cluster(slowly, { seed })
      const call = await called(on, 'tools/call', { name: 'read' })
      // neither takes the connection from the other, and both see that the node is dead
      world.network.loss = 1
      world.kill(on.A)
      await world.clock.pass(4000)
      for (const node of [on.B, on.C]) {
        on.driver.resume(node, call.lastEventId)
        // long enough for a first look into the log, which would tell B of C
        await world.clock.pass(300)
      }
      await world.clock.pass(6000)
      const log = await logOf(on, call.lastEventId)
      expect(log.messages, `seed ${seed}`).toHaveLength(1)
      expect(on.times('tools/call'), `seed ${seed}`).toBe(2)
    }
  })

  test('the finisher dies too: the next one finishes', async () => {
    const on = await cluster((node) => ({
      ...hangOnA(node, false),
      'tools/call': () => (node === 'C' ? { node } : UNANSWERED),
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    world.kill(on.A)
    const second = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => on.on('B').some((server) => server.all('tools/call').length > 0), DEAD_AFTER)
    world.kill(on.B)
    await on.driver.until(() => second.broken)
    const third = on.driver.resume(on.C, second.lastEventId)
    await on.driver.until(() => third.ended, DEAD_AFTER)
    expect(third.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'C' } }])
    expect(on.times('tools/call')).toBe(3)
  })

  test('the finisher dies between the claim and the first look at the log', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    world.kill(on.A)
    world.network.afterwards = (node, what) => {
      if (node === 'B' && what === 'events.claim') world.kill(on.B)
      return undefined
    }
    const second = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => second.broken, DEAD_AFTER)
    const third = on.driver.resume(on.C, call.lastEventId)
    await on.driver.until(() => third.ended, DEAD_AFTER)
    expect(third.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'C' } }])
    expect(on.times('tools/call')).toBe(2)
  })

  test('the restarted node finishes what its predecessor began', async () => {
    const on = await cluster((node, restored) => ({
      'tools/list': pages,
      'tools/call': () => (restored ? { node } : UNANSWERED),
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    world.kill(on.A)
    await on.driver.until(() => call.broken)
    world.restart(on.A)
    const resumed = on.driver.resume(on.A, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'A' } }])
  })
})

describe('a node that was only paused', () => {
  test('and comes back: what it still has to say is not heard, and its handlers are aborted', async () => {
    let answer = () => {}
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': (message, server) => {
        if (node !== 'A') return { node }
        answer = () => void server.respond(message, { node })
        return UNANSWERED
      },
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    const [server] = on.on('A') as [ScriptedServer]
    const cancelled = () => server.all('notifications/cancelled').length
    world.pause(on.A)
    call.drop()
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
    world.resume(on.A)
    world.clock.as(
      on.A.owner,
      () => void server.notify('notifications/progress', { progressToken: 't', progress: 9 }, 7),
    )
    await on.driver.until(() => cancelled() > 0 || server.closed, 2000, 'its handlers are aborted')
    world.clock.as(on.A.owner, answer)
    await world.clock.pass(3000)
    const log = await logOf(on, call.lastEventId)
    expect(log.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
  })

  test('and comes back while another node is still at it: it is not heard', async () => {
    const answers = new Map<string, () => void>()
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': (message, server) => {
        answers.set(node, () => {
          void server.notify('notifications/message', { data: node }, 7)
          void server.respond(message, { node })
        })
        return UNANSWERED
      },
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    world.pause(on.A)
    call.drop()
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => answers.has('B'), DEAD_AFTER)
    // what it says comes before anything that could tell it
    world.resume(on.A)
    world.clock.as(on.A.owner, () => answers.get('A')?.())
    await world.clock.pass(3000)
    expect((await logOf(on, call.lastEventId)).messages).toEqual([])
    world.clock.as(on.B.owner, () => answers.get('B')?.())
    await on.driver.until(() => resumed.ended)
    expect(resumed.messages).toEqual([
      { jsonrpc: '2.0', method: 'notifications/message', params: { data: 'B' } },
      { jsonrpc: '2.0', id: 7, result: { node: 'B' } },
    ])
  })

  test('its handlers are aborted even if they say nothing more', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'plain' })
    const [server] = on.on('A') as [ScriptedServer]
    world.pause(on.A)
    call.drop()
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
    world.resume(on.A)
    const cancelled = () => server.all('notifications/cancelled').length
    await on.driver.until(() => cancelled() > 0 || server.closed, 15_000, 'its handlers are aborted')
  })

  test('and comes back before anybody has claimed its stream, goes on', async () => {
    let answer = () => {}
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': (message, server) => {
        answer = () => void server.respond(message, { node })
        return node === 'A' ? UNANSWERED : { node }
      },
    }))
    const call = await called(on, 'tools/call', { name: 'plain' })
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await world.clock.pass(500)
    world.pause(on.A)
    await world.clock.pass(3000)
    world.resume(on.A)
    await world.clock.pass(1000)
    world.clock.as(on.A.owner, answer)
    await on.driver.until(() => resumed.ended)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'A' } }])
  })
})

describe('a log that fails while a stream is taken over', () => {
  const troubles = ['rejects', 'the answer is lost'] as const
  const calls = ['events.claim', 'events.read', 'events.append', 'bus.nodes', 'sessions.load'] as const
  const cases = calls.flatMap((what) =>
    troubles.flatMap((trouble) => [1, 3].map((times) => [what, trouble, times] as const)),
  )

  test.each(cases)('%s, %s, %i times', async (what, trouble, times) => {
    for (const name of ['read', 'plain']) {
      if (name === 'plain') world.end()
      const on = await cluster(hangOnA, { backendTimeout: 500 })
      const call = await called(on, 'tools/call', { name })
      world.kill(on.A)
      await on.driver.until(() => call.broken)
      let left = times
      const fail = (node: string, at: string): Promise<void> | undefined => {
        if (node !== 'B' || at !== what || resumed.status !== 200 || left-- <= 0) return undefined
        return Promise.reject(new Error(`${what} is out of order`))
      }
      world.network[trouble === 'rejects' ? 'interfere' : 'afterwards'] = fail
      let resumed = on.driver.resume(on.B, call.lastEventId)
      // a client whose connection ends comes back
      const answered = async () => {
        for (let round = 0; round < 40 && resumed.messages.length === 0; round++) {
          await world.clock.pass(500)
          if (resumed.over && resumed.messages.length === 0)
            resumed = on.driver.resume(on.B, resumed.lastEventId ?? call.lastEventId)
        }
      }
      await answered()
      expect(left, 'the fault was met').toBeLessThan(times)
      const outcome = name === 'read' ? { result: { node: 'B' } } : { error: UNKNOWN }
      expect(resumed.messages, name).toEqual([{ jsonrpc: '2.0', id: 7, ...outcome }])
      expect(on.times('tools/call'), name).toBe(name === 'read' ? 2 : 1)
      expect((await logOf(on, call.lastEventId)).messages).toHaveLength(1)
    }
  })

  test.each([true, false])('a claim whose answer is lost (it was done: %s), and the node comes back', async (done) => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    world.pause(on.A)
    call.drop()
    let failed = 0
    world.network[done ? 'afterwards' : 'interfere'] = (node, what) => {
      if (node !== 'B' || what !== 'events.claim' || failed++ > 0) return undefined
      world.resume(on.A)
      return Promise.reject(new Error('the answer was lost'))
    }
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => failed > 0, DEAD_AFTER)
    if (done) {
      await on.driver.until(() => resumed.ended, DEAD_AFTER)
      expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
    } else {
      // it is at work again, and whoever takes its stream or not, does so once
      await world.clock.pass(3000)
      world.kill(on.A)
      await on.driver.until(() => resumed.ended, DEAD_AFTER)
      expect(resumed.messages).toHaveLength(1)
    }
  })

  test.each(['rejects', 'hangs', 'flaky'] as const)(
    'the whole backend %s for 4 s in the middle of it',
    async (store) => {
      for (let delay = 0; delay <= 60; delay += 3) {
        if (delay > 0) world.end()
        const on = await cluster(hangOnA, { backendTimeout: 500, seed: delay })
        const call = await called(on, 'tools/call', { name: 'read' })
        world.kill(on.A)
        await world.clock.pass(7000)
        let resumed = on.driver.resume(on.B, call.lastEventId)
        await world.clock.pass(delay)
        world.network.store = store
        await world.clock.pass(4000)
        world.network.store = 'none'
        for (let round = 0; round < 40 && resumed.messages.length === 0; round++) {
          await world.clock.pass(500)
          if (resumed.over && resumed.messages.length === 0) resumed = on.driver.resume(on.B, call.lastEventId)
        }
        // while the store is away, nobody can build the server that would say what is safe
        expect(resumed.messages, `after ${delay} ms`).toHaveLength(1)
        expect((await logOf(on, call.lastEventId)).messages, `after ${delay} ms`).toEqual(resumed.messages)
        expect(on.times('tools/call'), `after ${delay} ms`).toBeLessThanOrEqual(2)
      }
    },
  )
})

describe('drain', () => {
  const drain = (node: SimulatedNode, timeout: number) => world.drain(node, timeout)

  test.each([
    ['read', true],
    ['plain', false],
  ])('hands running calls over at once: %s', async (name, again) => {
    for (const mode of ['sse', 'auto'] as const) {
      if (mode === 'auto') world.end()
      const on = await cluster(hangOnA, { responseMode: mode, upgradeAfter: 60_000 })
      const call = on.driver.request(on.A, 7, 'tools/call', { name })
      await started(on, 'tools/call')
      drain(on.A, 0)
      await on.driver.until(() => call.ended, 1000)
      expect(call.messages, mode).toEqual([])
      expect(call.blocks.join('\n'), mode).toContain('retry: ')
      const resumed = on.driver.resume(on.B, call.lastEventId)
      await on.driver.until(() => resumed.ended, 1500)
      const outcome = again ? { result: { node: 'B' } } : { error: UNKNOWN }
      expect(resumed.messages, mode).toEqual([{ jsonrpc: '2.0', id: 7, ...outcome }])
    }
  })

  test('a call that is followed elsewhere is finished there', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await world.clock.pass(500)
    drain(on.A, 0)
    await on.driver.until(() => resumed.ended, 1500)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
  })

  test('a call that ends in time is not handed over', async () => {
    const on = await cluster((node) => ({
      'tools/call': () => new Promise((resolve) => setTimeout(() => resolve({ node }), 700)),
    }))
    const call = await called(on, 'tools/call', { name: 'plain' })
    drain(on.A, 2000)
    await on.driver.until(() => call.ended, 1500)
    expect(call.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'A' } }])
    expect(on.times('tools/call')).toBe(1)
  })

  test('what the drained node still finishes is not heard', async () => {
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': () => (node === 'A' ? new Promise((resolve) => setTimeout(() => resolve({ node }), 60)) : { node }),
    }))
    const call = await called(on, 'tools/call', { name: 'plain' })
    drain(on.A, 0)
    await on.driver.until(() => call.over, 1500)
    if (call.messages.length > 0) return
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, 1500)
    expect(resumed.messages).toHaveLength(1)
    expect((await logOf(on, call.lastEventId)).messages).toEqual(resumed.messages)
  })
})

describe('a client that comes back', () => {
  const talk: NodeScript = () => ({
    'tools/call': async (message, server) => {
      for (let data = 1; data <= 5; data++) await server.notify('notifications/message', { data }, message.id)
      return { done: true }
    },
  })

  async function finished(options: Parameters<typeof cluster>[1] = {}) {
    const on = await cluster(talk, options)
    const call = on.driver.request(on.A, 7, 'tools/call', { name: 'x' })
    await on.driver.until(() => call.ended)
    expect(call.messages).toHaveLength(6)
    const at = (position: number | string) => call.lastEventId?.replace(/\d+$/, String(position))
    return { on, call, at }
  }

  test('for the rest of a finished stream gets it, to the end', async () => {
    const { on, call, at } = await finished()
    for (const node of [on.A, on.B]) {
      for (let position = 0; position < 6; position++) {
        const resumed = on.driver.resume(node, at(position))
        await on.driver.until(() => resumed.ended, 1000)
        expect(resumed.messages).toEqual(call.messages.slice(position))
      }
    }
  })

  test('to a finished stream of which it has everything: 204', async () => {
    const { on, call } = await finished()
    for (const node of [on.A, on.B]) {
      const resumed = on.driver.resume(node, call.lastEventId)
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status).toBe(204)
    }
  })

  test('for what was purged: 400, not a stream with a hole', async () => {
    const { on, at } = await finished({ retention: { maxEvents: 2 } })
    for (const [position, status] of [
      [0, 400],
      [3, 400],
      [4, 200],
    ] as const) {
      const resumed = on.driver.resume(on.B, at(position))
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status, `after ${position}`).toBe(status)
      if (status === 400) expect(JSON.parse(resumed.body).error.code).toBe(-32000)
    }
  })

  test('after the log has forgotten the stream: 400', async () => {
    const { on, at } = await finished({ retention: { ttl: 1000 } })
    await world.clock.pass(2000)
    const resumed = on.driver.resume(on.B, at(3))
    await on.driver.until(() => resumed.ended, 1000)
    expect(resumed.status).toBe(400)
  })

  test('with a cursor that is none: 400', async () => {
    const { on, call, at } = await finished()
    const [tag, stream] = String(call.lastEventId).split('.') as [string, string]
    const none = [
      'nonsense',
      `${tag}.${stream}`,
      `${tag}.${stream}.`,
      `${tag}.${stream}.x`,
      `${tag}.${stream}.-1`,
      `${tag}.${stream}.1e1`,
      `${tag}.${stream}.1.1`,
      `${tag}..1`,
      `${tag}.nosuchstream.1`,
      `${tag}.../../x.1`,
      at('99999999999999999999'),
      at(7),
    ]
    for (const id of none) {
      const resumed = on.driver.resume(on.B, id)
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status, id).toBe(400)
      expect(JSON.parse(resumed.body).error.code, id).toBe(-32000)
    }
  })

  test("with another session's cursor: 400; as another principal: 404", async () => {
    const { on, call, at } = await finished({ principal: 'ann' })
    const other = await new Driver(world, { principal: 'ann' }).open(on.B)
    for (const node of [on.A, on.B, on.C]) {
      const stolen = other.resume(node, call.lastEventId)
      await other.until(() => stolen.ended, 1000)
      expect(stolen.status).toBe(400)
      const bob = new Driver(world, { principal: 'bob' })
      bob.session = on.driver.session
      const foreign = bob.resume(node, at(0))
      await bob.until(() => foreign.ended, 1000)
      expect(foreign.status).toBe(404)
      expect(JSON.parse(foreign.body).error.code).toBe(-32001)
    }
  })

  test('to a session that was deleted: 404', async () => {
    const { on, at } = await finished()
    const gone = on.driver.visit(on.A, { method: 'DELETE' })
    await on.driver.until(() => gone.ended)
    for (const node of [on.A, on.B]) {
      const resumed = on.driver.resume(node, at(2))
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status).toBe(404)
    }
  })

  test('to the standalone stream, of which the log keeps less: from the oldest kept', async () => {
    const on = await cluster(
      () => ({
        'tools/call': async (message, server) => {
          for (let data = 1; data <= 6; data++)
            await server.notify('notifications/message', { data: [message.id, data] })
          return {}
        },
      }),
      { retention: { maxEvents: 3 } },
    )
    const get = on.driver.visit(on.A, { method: 'GET' })
    await on.driver.until(() => get.lastEventId !== undefined)
    const cursor = get.lastEventId
    get.drop()
    const call = on.driver.request(on.A, 7, 'tools/call')
    await on.driver.until(() => call.ended)
    await world.clock.pass(500)
    const resumed = on.driver.resume(on.B, cursor)
    await on.driver.until(() => resumed.messages.length === 3)
    expect(resumed.messages.map(({ params }) => params.data[1])).toEqual([4, 5, 6])
  })
})
