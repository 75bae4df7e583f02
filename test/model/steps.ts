/** What can happen to a cluster and its clients, as fast-check commands. */
import fc from 'fast-check'
import type { Call } from './call.js'
import type { Client } from './client.js'
import { IDLE_TTL } from './lifetime.js'
import type { Model } from './model.js'
import type { StoreTrouble } from './network.js'
import { TOOLS, type Tool } from './server.js'
import { work, worksOf } from './timers.js'
import type { Connection, SimulatedNode, World } from './world.js'

/** One step, and the time that passes after it. */
class Step implements fc.AsyncCommand<Model, World> {
  constructor(
    private readonly name: string,
    private readonly wait: number,
    private readonly details: unknown[],
    private readonly can: (model: Model, world: World) => boolean,
    private readonly act: (model: Model, world: World) => void | Promise<void>,
  ) {}

  check(model: Model): boolean {
    return this.can(model, model.world)
  }

  async run(model: Model, world: World): Promise<void> {
    model.look()
    model.trace.push(this.name)
    await this.act(model, world)
    await model.pass(this.wait)
  }

  toString(): string {
    return `${this.name}(${this.details.map((detail) => JSON.stringify(detail)).join(', ')}) +${this.wait}`
  }
}

/** Mostly a moment, in which what was begun is still under way; sometimes long enough for it to end. */
const waits = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 40 }) },
  { weight: 3, arbitrary: fc.integer({ min: 40, max: 400 }) },
  { weight: 1, arbitrary: fc.integer({ min: 400, max: 3000 }) },
)

const nats = fc.nat({ max: 11 })

export function pick<T>(all: readonly T[], index: number): T {
  return all[index % all.length] as T
}

interface Dice {
  client: number
  node: number
  which: number
}

const dice: fc.Arbitrary<Dice> = fc.record({ client: fc.nat({ max: 1 }), node: fc.nat({ max: 2 }), which: nats })

/** A step of one client at one node. */
function step(
  name: string,
  can: (client: Client, node: SimulatedNode) => boolean,
  act: (client: Client, node: SimulatedNode, which: number, model: Model) => void,
): fc.Arbitrary<fc.AsyncCommand<Model, World>> {
  return fc.tuple(dice, waits).map(([{ client, node, which }, wait]) => {
    const find = (model: Model, world: World): [Client, SimulatedNode] => [
      model.clients[client] as Client,
      world.nodes[node] as SimulatedNode,
    ]
    return new Step(
      name,
      wait,
      ['ab'[client], 'ABC'[node], which],
      (model, world) => can(...find(model, world)),
      (model, world) => act(...find(model, world), which, model),
    )
  })
}

/** A step of the world. */
function event(
  name: string,
  can: (node: SimulatedNode) => boolean,
  act: (world: World, node: SimulatedNode, which: number, model: Model) => void | Promise<void>,
): fc.Arbitrary<fc.AsyncCommand<Model, World>> {
  return fc.tuple(fc.nat({ max: 2 }), nats, waits).map(
    ([node, which, wait]) =>
      new Step(
        name,
        wait,
        ['ABC'[node], which],
        (_, world) => can(world.nodes[node] as SimulatedNode),
        (model, world) => act(world, world.nodes[node] as SimulatedNode, which, model),
      ),
  )
}

/** A step of one node's timer. */
function timers(): fc.Arbitrary<fc.AsyncCommand<Model, World>> {
  return fc.tuple(fc.nat({ max: 2 }), nats, fc.boolean(), waits).map(([node, which, clockGoesOn, wait]) => {
    const ownerOf = (world: World) => (world.nodes[node] as SimulatedNode).owner
    const details: unknown[] = ['ABC'[node], which, clockGoesOn]
    return new Step(
      'timer',
      wait,
      details,
      ({ world }) => worksOf(world.clock, ownerOf(world)).length > 0,
      ({ world }) => {
        const works = worksOf(world.clock, ownerOf(world))
        const kind = pick(works, Math.floor(works.length * (which / 12) ** 2))
        details[3] = kind
        work(world.clock, ownerOf(world), kind, clockGoesOn)
      },
    )
  })
}

const LEVELS = ['debug', 'info', 'error']
const URIS = ['file:///one', 'file:///two']
const TOOL_NAMES = Object.keys(TOOLS) as Tool[]
const hasSession = (client: Client) => client.session !== undefined
const running = (client: Client): Call[] => client.pending
const resumable = (client: Client): Call[] => client.pending.filter((call) => call.lastEventId !== undefined)
/** Questions of calls that still run. One whose asker seemed to be dead may be answered again when it is not. */
export const openQuestions = (client: Client) =>
  client.questions.filter(({ answered, call }) => !answered && client.pending.some(({ id }) => id === call))

const strandable = (client: Client) =>
  resumable(client).filter(({ connection }) => connection?.open && connection.node.state === 'up')

function pauseFor(world: World, node: SimulatedNode, ms: number): void {
  world.pause(node)
  const { owner } = node
  world.clock.after(ms, undefined, () => {
    if (node.owner === owner) world.resume(node)
  })
}

/** Ends a kind of trouble after a while. */
function forAWhile(world: World, model: Model, ms: number, begin: () => void, end: () => void): void {
  begin()
  model.trouble.look()
  world.clock.after(ms, undefined, () => {
    model.trouble.look()
    end()
  })
}

const WHILES = [200, 1500, 4000, 8000]

const call = (tools: readonly Tool[]) =>
  step('call', hasSession, (client, node, which) => {
    client.call(node, pick(tools, which), 1 + (which % 4), pick([5, 60, 700, 2000], which >> 1))
  })

const steps = {
  initialize: step(
    'initialize',
    (client) => client.session === undefined && !client.initializing,
    (client, node) => client.initialize(node),
  ),
  initialized: step('initialized', hasSession, (client, node) => client.initializedNow(node)),
  call: call(TOOL_NAMES),
  longCall: call(['slow', 'slowRead', 'ask', 'askRead']),
  state: call(['state']),
  answer: step(
    'answer',
    (client) => openQuestions(client).length > 0,
    (client, node, which) => client.answer(node, pick(openQuestions(client), which)),
  ),
  cancel: step(
    'cancel',
    (client) => running(client).length > 0,
    (client, node, which) => client.cancel(node, pick(running(client), which)),
  ),
  setLevel: step('setLevel', hasSession, (client, node, which) => client.setLevel(node, pick(LEVELS, which))),
  subscribe: step('subscribe', hasSession, (client, node, which) =>
    client.subscribe(node, pick(URIS, which), which % 4 < 2),
  ),
  notify: step('notify', hasSession, (client, node) => client.notify(node)),
  get: step('get', hasSession, (client, node, which) => client.openGet(node, which % 4 > 0)),
  dropGet: step(
    'dropGet',
    (client) => client.standalone?.open === true,
    (client) => client.standalone?.drop(),
  ),
  drop: step(
    'drop',
    (client) => running(client).some((one) => one.connection),
    (client, _, which) =>
      client.drop(
        pick(
          running(client).filter((one) => one.connection),
          which,
        ),
      ),
  ),
  resume: step(
    'resume',
    (client) => resumable(client).length > 0,
    (client, node, which) => client.resume(node, pick(resumable(client), which)),
  ),
  /** The node that runs a call goes, and its client turns elsewhere at once. */
  strand: step(
    'strand',
    (client) => strandable(client).length > 0,
    (client, node, which, model) => {
      const { world } = model
      const one = pick(strandable(client), which)
      const home = (one.connection as Connection).node
      if (which % 3 === 0) world.kill(home)
      else pauseFor(world, home, pick([6500, 7500, 9000], which))
      client.resume(node === home ? pick(world.nodes, world.nodes.indexOf(node) + 1) : node, one)
    },
  ),
  delete: step('delete', hasSession, (client, node) => client.delete(node)),
  foreign: step('foreign', hasSession, (client, node, which, { clients }) =>
    client.foreign(node, pick(clients, clients.indexOf(client) + 1).principal, pick(['POST', 'GET', 'DELETE'], which)),
  ),
  foreignCursor: step('foreignCursor', hasSession, (client, node, which, { clients }) => {
    const other = pick(clients, clients.indexOf(client) + 1)
    const ids = [other.standaloneCursor, ...other.calls.map((one) => one.lastEventId)].filter((id) => id !== undefined)
    if (ids.length > 0) client.foreignCursor(node, pick(ids, which))
  }),
  kill: event(
    'kill',
    (node) => node.state !== 'down',
    (world, node) => world.kill(node),
  ),
  restart: event(
    'restart',
    (node) => node.state === 'down',
    (world, node) => world.restart(node),
  ),
  pause: event(
    'pause',
    (node) => node.state === 'up',
    (world, node, which) => pauseFor(world, node, pick(WHILES, which)),
  ),
  drain: event(
    'drain',
    (node) => node.state === 'up',
    (world, node, which) => world.drain(node, pick([0, 50, 1000], which)),
  ),
  evict: event(
    'evict',
    () => true,
    async (_, __, ___, model) => model.pass(4000),
  ),
  loseMessages: event(
    'loseMessages',
    () => true,
    (world, _, which, model) => {
      const { network } = world
      const end = () => Object.assign(network, { loss: 0, duplication: 0 })
      forAWhile(world, model, pick(WHILES, which), () => Object.assign(network, pick(BUS_TROUBLE, which >> 2)), end)
    },
  ),
  storeAway: event(
    'storeAway',
    () => true,
    (world, _, which, model) => {
      const { network } = world
      const trouble = pick<StoreTrouble>(['rejects', 'hangs', 'flaky'], which >> 2)
      const set = (store: StoreTrouble) => () => {
        network.store = store
      }
      forAWhile(world, model, pick([200, 1500, 3000, 8000], which), set(trouble), set('none'))
    },
  ),
  cutOff: event(
    'cutOff',
    (node) => node.state === 'up',
    (world, { owner }, which, model) => {
      const { cutOff } = world.network
      forAWhile(
        world,
        model,
        pick(WHILES, which),
        () => void cutOff.add(owner),
        () => void cutOff.delete(owner),
      )
    },
  ),
  setClock: event(
    'setClock',
    () => true,
    (_, { owner }, which) => {
      owner.skew = pick([-3_600_000, 3_600_000, 0], which)
    },
  ),
  /** A timer of a node runs now, and no other. */
  timer: timers(),
  jump: event(
    'jump',
    () => true,
    async (_, __, which, model) => model.pass(pick([3000, 6000, 30_000, 1.3 * IDLE_TTL], which)),
  ),
}

const BUS_TROUBLE = [
  { loss: 1, duplication: 0 },
  { loss: 0.4, duplication: 0.3 },
  { loss: 0, duplication: 0.6 },
]

const WEIGHTS: { [name in keyof typeof steps]?: number } = {
  initialize: 1,
  call: 8,
  longCall: 6,
  state: 3,
  answer: 6,
  resume: 6,
  drop: 4,
  get: 4,
  setLevel: 3,
  subscribe: 3,
  kill: 2,
  strand: 3,
  restart: 3,
  timer: 10,
}

export const commands = fc.commands(
  Object.entries(steps).flatMap(([name, one]) =>
    Array.from({ length: WEIGHTS[name as keyof typeof steps] ?? 1 }, () => one),
  ),
  { maxCommands: 70, size: 'max', ...(process.env.REPLAY && { replayPath: process.env.REPLAY }) },
)
