/** What nodes cost by themselves is what docs/costs.md says. */
import { describe, expect, test } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'
import { costSaid, resultOf, rowsOf } from './page.js'
import { Scene } from './scene.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE

const PAGE = rowsOf('## At rest')

/** The commands that the rows of the page are about, in its order. */
const COMMANDS = [
  'bus.beat',
  'sessions.look',
  'events.look',
  'events.keep',
  'sessions.touch',
  'events.append',
  'bus.nodes',
  'bus.publish',
] as const

type Command = (typeof COMMANDS)[number]

interface Rate {
  /** In ms. */
  every: number
  commands: string
  atMost: boolean
  /** Commands on a Redis Cluster. */
  clustered: string
}

function rateOf(command: Command): Rate {
  const [every = '', commands = '', clustered = ''] = [...PAGE.values()][COMMANDS.indexOf(command)] ?? []
  const limit = 'at most '
  return {
    every: Number.parseFloat(every) * 1000,
    commands: commands.replace(limit, ''),
    atMost: commands.startsWith(limit),
    clustered: clustered.replace(limit, ''),
  }
}

/** Expects a count of what happened in a time: a round more or less, or up to the limit. */
function expectRate(
  command: Command,
  count: number,
  time: number,
  g: number,
  nodes = 1,
  on: 'clustered' | 'commands' = 'commands',
) {
  const { every, atMost, ...formulas } = rateOf(command)
  const round = nodes * resultOf(formulas[on], { g })
  const rounds = time / every
  expect(count, `${command} (${on}) of ${nodes} nodes`).toBeLessThanOrEqual(round * (atMost ? rounds : rounds + 1))
  if (!atMost) expect(count, command).toBeGreaterThanOrEqual(round * (rounds - 1))
}

/** The backend, and how many sessions and streams it was asked about: as many commands as that on a Redis Cluster. */
function meter() {
  const shared = memory()
  const asked: Partial<Record<Command, number>> = {}
  const add = (command: Command, names: readonly unknown[]) => {
    asked[command] = (asked[command] ?? 0) + names.length
  }
  const backend: Backend = {
    ...shared,
    sessions: {
      ...shared.sessions,
      look: (ids) => {
        add('sessions.look', ids)
        return shared.sessions.look(ids)
      },
    },
    events: {
      ...shared.events,
      look: (streams) => {
        add('events.look', streams)
        return shared.events.look(streams)
      },
      keep: (streams) => {
        add('events.keep', streams)
        return shared.events.keep(streams)
      },
    },
  }
  return { backend, asked }
}

/** Nodes that have so many sessions each whose client does nothing but follow its stream. */
async function idle(nodes: number, g: number) {
  const pass = fakeTime()
  const { backend, asked } = meter()
  const scene = new Scene(nodes, () => backend)
  await scene.populate(nodes)
  for (const { handler } of scene.nodes) {
    for (let i = 0; i < g; i++) expect((await (await openSession(handler)).get()).status).toBe(200)
  }
  // By then it has been seen that nothing happens.
  await pass(2 * MINUTE)
  scene.reset()
  for (const command of COMMANDS) asked[command] = 0
  return { pass, scene, asked, count: (command: string) => scene.calls.filter((call) => call === command).length }
}

test.each([
  [1, 0],
  [1, 1],
  [1, 300],
  [1, 600],
  [8, 20],
  [24, 0],
])('%i nodes with %i idle streams each, in a minute', { timeout: 60_000 }, async (nodes, g) => {
  const { pass, scene, asked, count } = await idle(nodes, g)
  await pass(MINUTE)
  for (const command of ['bus.beat', 'sessions.look', 'events.look'] as const) {
    expectRate(command, count(command), MINUTE, g, nodes)
  }
  expectRate('sessions.look', asked['sessions.look'] ?? 0, MINUTE, g, nodes, 'clustered')
  // A stream is looked at once in 18 s, or once more if it was just due.
  expect(asked['events.look']).toBeLessThanOrEqual(nodes * g * Math.ceil(MINUTE / 18_000))
  const rare = ['events.keep', 'sessions.touch']
  expect(scene.calls.filter((call) => !['bus.beat', 'sessions.look', 'events.look', ...rare].includes(call))).toEqual(
    [],
  )
})

test('a few idle streams, in three hours', { timeout: 60_000 }, async () => {
  const g = 5
  const { pass, asked, count } = await idle(1, g)
  await pass(3 * HOUR)
  for (const command of COMMANDS.slice(0, 5)) expectRate(command, count(command), 3 * HOUR, g)
  expectRate('events.keep', asked['events.keep'] ?? 0, 3 * HOUR, g, 1, 'clustered')
  expectRate('events.look', asked['events.look'] ?? 0, 3 * HOUR, g, 1, 'clustered')
})

test('a node that has had no session asks for nothing', async () => {
  const pass = fakeTime()
  const scene = new Scene(1, () => memory())
  await pass(MINUTE)
  expect(scene.calls).toEqual([])
})

test('a session that nobody uses costs nothing, and one command when its instance goes', async () => {
  const pass = fakeTime()
  const scene = new Scene(1, () => memory(), { liveIdle: 2 * MINUTE })
  await scene.session()
  await quiet()
  const cost = await scene.costOf(() => pass(MINUTE))
  expect(cost).toEqual({ store: 0, log: 0, bus: 0, messages: 0 })
  const gone = await scene.costOf(() => pass(2 * MINUTE))
  expect(gone).toEqual(costSaid('an instance that was idle for `liveIdle` goes', {}))
})

test('each row of the page is counted', () => {
  expect(PAGE.size).toBe(COMMANDS.length)
})

test('a request that is followed on another node than the one where it runs', async () => {
  const pass = fakeTime()
  const shared = memory()
  const scene = new Scene(2, () => shared)
  const { client, server } = await scene.session(2)
  const opened = client.open({ id: 'call', method: 'tools/call', params: { name: 'slow' } })
  await server.got('tools/call')
  await server.say('begun', 'call')
  const stream = await opened
  await stream.next()
  await client.at(scene.node(1).handler).get(stream.lastEventId)
  scene.reset()
  await pass(10 * MINUTE)
  for (const command of ['bus.nodes', 'bus.publish', 'events.append'] as const) {
    expectRate(command, scene.calls.filter((call) => call === command).length, 10 * MINUTE, 0)
  }
  expect(scene.calls).toContain('bus.publish')
})

test('a request that runs', async () => {
  const pass = fakeTime()
  const scene = new Scene(1, () => memory())
  const { client, server } = await scene.session()
  void client.open({ id: 'call', method: 'tools/call', params: { name: 'slow' } })
  await server.got('tools/call')
  await server.say('begun', 'call')
  await pass(1_000)
  scene.reset()
  await pass(10 * MINUTE)
  expectRate('events.append', scene.calls.filter((call) => call === 'events.append').length, 10 * MINUTE, 0)
})

describe('a million idle streams on 100 nodes', () => {
  const [nodes, g] = [100, 10_000]
  test.each(
    [...rowsOf('## A million idle streams')].map(([what, cells], i) => ({ what, cells, command: COMMANDS[i] })),
  )('$what', ({ what, cells, command = 'bus.beat' }) => {
    expect([...PAGE.keys()][COMMANDS.indexOf(command)]).toBe(what)
    const { every, commands, clustered } = rateOf(command)
    const aSecond = (formula: string) =>
      Math.round((nodes * resultOf(formula, { g }) * 1000) / every).toLocaleString('en')
    expect(cells).toEqual([aSecond(commands), aSecond(clustered)])
  })
})
