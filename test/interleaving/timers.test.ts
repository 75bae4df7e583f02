/**
 * Every work that a timer of a node may do, at every call that an operation makes to the backend: the call is held up, before or
 * after it is done, the work of one timer is done meanwhile, and only then the call goes on. Nothing may come of that.
 */
import { describe, expect, test, vi } from 'vitest'
import { parseEventId } from '../harness/event-id.js'
import { UNANSWERED } from '../harness/scripted-server.js'
import { type Work, work, worksOf } from '../model/timers.js'
import type { SimulatedNode } from '../model/world.js'
import type { Visit } from '../stream/driver.js'
import { type Cluster, cluster, DEAD_AFTER, type NodeScript, started, UNKNOWN } from '../stream/simulated.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

/** Long enough for what a timer does to be done, in ms: it asks the backend, and the other nodes. */
const A_MOMENT = 80

interface Operation {
  options?: Parameters<typeof cluster>[1]
  /** What comes before, as usual. */
  before?(on: Cluster): Promise<Visit | undefined>
  /** The operation, and what must have come of it. */
  run(on: Cluster, before: Visit | undefined): Promise<void>
}

/** A call to the backend, by which of all calls of the operation it is. */
interface Point {
  call: number
  side: 'before' | 'after'
}

/** What is done while the call is held up: the work of the n-th timer of the two nodes; undefined: none is. */
interface Meanwhile {
  timer: number
  clockGoesOn: boolean
}

interface Outcome {
  calls: number
  /** How many timers there were to choose from; undefined: the call never came. */
  timers: number | undefined
  what: string
}

async function once(operation: Operation, point?: Point, meanwhile?: Meanwhile): Promise<Outcome> {
  const on = await cluster(script, operation.options)
  const before = await operation.before?.(on)
  const { network } = on.world
  const outcome: Outcome = { calls: 0, timers: undefined, what: 'nothing held up' }
  const counts = { before: 0, after: 0 }
  const hold = (side: Point['side']) => (node: string, what: string) => {
    // Heartbeats and looks at them are timers' work themselves.
    if (what === 'bus.beat' || what === 'bus.nodes') return undefined
    const call = counts[side]++
    outcome.calls = Math.max(outcome.calls, call + 1)
    if (!point || point.side !== side || point.call !== call) return undefined
    outcome.what = `${node} ${what} (${side})`
    return doWork(on, outcome, meanwhile)
  }
  network.interfere = hold('before')
  network.afterwards = hold('after')
  try {
    await operation.run(on, before)
  } catch (error) {
    throw new Error(`${outcome.what}: ${String(error)}`, { cause: error })
  }
  return outcome
}

/** Resolves when a timer's work has been done. */
function doWork({ world, A, B }: Cluster, outcome: Outcome, meanwhile: Meanwhile | undefined): Promise<void> {
  const all: [SimulatedNode, Work][] = [A, B].flatMap((node) =>
    worksOf(world.clock, node.owner).map((kind): [SimulatedNode, Work] => [node, kind]),
  )
  outcome.timers = all.length
  const chosen = meanwhile && all[meanwhile.timer]
  if (!chosen) return Promise.resolve()
  const [{ name, owner }, kind] = chosen
  outcome.what += ` held up, ${name} does ${kind}${meanwhile.clockGoesOn ? ', whose clock goes on' : ''}`
  return new Promise((resolve) => {
    world.clock.after(0, undefined, () => {
      work(world.clock, owner, kind, meanwhile.clockGoesOn)
      world.clock.after(A_MOMENT, undefined, resolve)
    })
  })
}

/** In every order. */
async function inEveryOrder(operation: Operation): Promise<void> {
  const { calls } = await once(operation)
  let orders = 0
  for (let call = 0; call < calls; call++) {
    for (const side of ['before', 'after'] as const) {
      let timers = 1
      for (let timer = 0; timer < timers; timer++) {
        for (const clockGoesOn of [false, true]) {
          timers = (await once(operation, { call, side }, { timer, clockGoesOn })).timers ?? 0
          orders++
        }
      }
    }
  }
  // or the test is not one
  expect(orders).toBeGreaterThan(20)
}

const script: NodeScript = (node, restored) => ({
  'tools/list': () => ({ tools: [{ name: 'walk', annotations: { readOnlyHint: true } }, { name: 'wait' }] }),
  'tools/call': async ({ id, params }, server) => {
    if (params?.name === 'wait') return await UNANSWERED
    for (let step = 1; step <= 3; step++) {
      await new Promise((resolve) => setTimeout(resolve, 40))
      await server.say(step, id)
    }
    if (params?.name === 'ask' && !restored) {
      void server.ask('question', 'elicitation/create', { message: '?' }, id)
      return await UNANSWERED
    }
    return { node }
  },
})

const walk = async ({ driver, A }: Cluster): Promise<Visit> => {
  const visit = driver.request(A, 7, 'tools/call', { name: 'walk' })
  await driver.until(() => visit.messages.length > 0)
  return visit
}

const wait = async (on: Cluster): Promise<Visit> => {
  const visit = on.driver.request(on.A, 7, 'tools/call', { name: 'wait' })
  await started(on, 'tools/call')
  await on.driver.until(() => visit.lastEventId !== undefined)
  return visit
}

const listen = async ({ driver, A }: Cluster): Promise<Visit> => {
  const visit = driver.visit(A, { method: 'GET' })
  await driver.until(() => visit.status === 200)
  return visit
}

/** What a walk says, on all the connections that followed it: each message once, in order. */
function expectWalk(visits: readonly Visit[]): void {
  const messages = visits.flatMap((visit) => visit.messages)
  expect(messages.map((message) => message.params?.data ?? message.result)).toEqual([1, 2, 3, { node: 'A' }])
  const positions = visits.flatMap(({ blocks }) =>
    blocks.flatMap(({ id, message }) => (id !== undefined && message ? [parseEventId(id).position] : [])),
  )
  expect(positions).toEqual([1, 2, 3, 4].slice(0, positions.length))
}

const answered = async ({ driver }: Cluster, visit: Visit, status: number): Promise<void> => {
  await driver.until(() => visit.ended)
  expect([visit.status, visit.body]).toEqual([status, visit.body])
}

const OPERATIONS: Record<string, Operation> = {
  'a restore': {
    options: { responseMode: 'json' },
    async run(on) {
      const visit = on.driver.request(on.B, 1, 'ping')
      await answered(on, visit, 200)
      expect(JSON.parse(visit.body)).toEqual({ jsonrpc: '2.0', id: 1, result: {} })
    },
  },
  'a call': {
    async run(on) {
      const visit = await walk(on)
      await on.driver.until(() => visit.ended)
      expectWalk([visit])
    },
  },
  'a stream that goes on at another node': {
    before: walk,
    async run({ driver, B }, first) {
      first?.drop()
      const second = driver.resume(B, first?.lastEventId)
      await driver.until(() => second.ended)
      expectWalk([first as Visit, second])
    },
  },
  'a standalone stream that goes on at another node while the server speaks': {
    before: listen,
    async run(on, first) {
      const { driver, world, A, B } = on
      const say = (data: number) => world.clock.as(A.owner, () => void on.on('A')[0]?.say(data))
      say(1)
      const second = driver.visit(B, { method: 'GET' })
      say(2)
      await driver.until(() => second.status === 200)
      say(3)
      const all = () => [first as Visit, second].flatMap(({ messages }) => messages.map(({ params }) => params.data))
      await driver.until(() => all().length >= 3)
      await world.clock.pass(1500)
      expect(all()).toEqual([1, 2, 3])
      expect([first?.over, second.over]).toEqual([true, false])
    },
  },
  'a DELETE while a call runs': {
    before: wait,
    async run(on, call) {
      const { driver, world, A, B } = on
      await answered(on, driver.visit(B, { method: 'DELETE' }), 200)
      for (const node of [A, B]) await answered(on, driver.request(node, 1, 'ping'), 404)
      await driver.until(() => call?.over === true)
      expect(call?.messages).toEqual([])
      await world.clock.pass(3000)
      for (const node of ['A', 'B']) for (const { closed } of on.on(node)) expect(closed).toBe(true)
      expect(await world.network.truth.sessions.load(driver.session as string)).toBeUndefined()
      for (const node of [A, B]) await answered(on, driver.request(node, 2, 'ping'), 404)
    },
  },
  'log levels that are set on both nodes': {
    options: { responseMode: 'json' },
    async run(on) {
      const { driver, world, A, B } = on
      for (const [node, level] of [
        [A, 'debug'],
        [B, 'error'],
        [A, 'debug'],
      ] as const) {
        await answered(on, driver.request(node, 1, 'logging/setLevel', { level }), 200)
      }
      const stored = await world.network.truth.sessions.load(driver.session as string)
      expect(stored?.record.journal.setLevel).toEqual({ level: 'debug' })
      await world.clock.pass(3000)
      for (const node of ['A', 'B']) {
        expect(on.on(node).at(-1)?.all('logging/setLevel').at(-1)?.params).toEqual({ level: 'debug' })
      }
    },
  },
  'a reply that arrives at another node': {
    async before(on) {
      const visit = on.driver.request(on.A, 7, 'tools/call', { name: 'ask' })
      await on.driver.until(() => visit.messages.length === 4)
      return visit
    },
    async run(on, call) {
      const id = call?.messages.at(-1).id
      await answered(on, on.driver.post(on.B, { jsonrpc: '2.0', id, result: { action: 'accept' } }), 202)
      expect(on.on('A')[0]?.answers).toEqual([{ jsonrpc: '2.0', id: 'question', result: { action: 'accept' } }])
    },
  },
  'a drain while a call runs': {
    before: wait,
    async run({ driver, world, A, B, times }, first) {
      world.drain(A, 0)
      await driver.until(() => first?.over === true)
      const second = driver.resume(B, first?.lastEventId)
      await driver.until(() => second.ended, DEAD_AFTER + 5000)
      expect([...(first as Visit).messages, ...second.messages]).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
      expect(times('tools/call')).toBe(1)
    },
  },
  'a stream that is taken over from a node that died': {
    before: wait,
    async run({ driver, world, A, B, times }, first) {
      world.kill(A)
      await world.clock.pass(DEAD_AFTER)
      const second = driver.resume(B, first?.lastEventId)
      await driver.until(() => second.ended, DEAD_AFTER + 5000)
      expect(second.messages).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
      expect(times('tools/call')).toBe(1)
    },
  },
  'an instance that is dropped as soon as it is idle, and is wanted again': {
    options: { responseMode: 'json', liveIdle: 0 },
    async run(on) {
      for (const [id, node] of [on.A, on.B, on.A].entries()) {
        await answered(on, on.driver.request(node, id, 'ping'), 200)
      }
      await on.world.clock.pass(3000)
      const live = ['A', 'B'].flatMap((node) => on.on(node).filter(({ closed }) => !closed))
      expect(live).toEqual([])
    },
  },
}

describe('no timer comes at a wrong moment of', () => {
  test.each(Object.keys(OPERATIONS))('%s', async (name) => {
    await inEveryOrder(OPERATIONS[name] as Operation)
  })
})
