/** A cluster of simulated nodes with a client, for tests that say step by step what happens. */
import { afterEach } from 'vitest'
import type { JSONRPCRequest, SessionHandlerOptions } from '../../src/index.js'
import { parseEventId } from '../harness/event-id.js'
import { type Script, ScriptedServer, UNANSWERED } from '../harness/scripted-server.js'
import { type SimulatedNode, World, type WorldOptions } from '../model/world.js'
import { Driver, type DriverOptions, type Visit } from './driver.js'

/** What `ClusterNode` promises: a node is taken for dead after 5 s, and looked for twice a second. */
export const DEAD_AFTER = 6000
export const UNKNOWN = {
  code: -32000,
  message: 'The server went away before it answered; the outcome of this request is unknown',
  data: { reason: 'outcome-unknown' },
}

interface Server extends ScriptedServer {
  node: string
}

/** Of the test that runs: timers are those of one world at a time. */
let current: World | undefined
afterEach(() => current?.end())

export interface Cluster {
  world: World
  A: SimulatedNode
  B: SimulatedNode
  C: SimulatedNode
  driver: Driver
  /** Instances by node. */
  on(node: string): ScriptedServer[]
  /** How often a request was handed to a server, anywhere. */
  times(method: string): number
}

export type NodeScript = (node: string, restored: boolean) => Script

/** Three simulated nodes, and a session that was opened on A. */
export async function cluster(
  script: NodeScript,
  options: Omit<SessionHandlerOptions, 'principal'> &
    DriverOptions &
    Pick<WorldOptions, 'retention'> & { seed?: number } = {},
): Promise<Cluster> {
  const { principal, version, retention, seed = 1, ...handler } = options
  const built: Server[] = []
  current?.end()
  const world = new World({
    seed,
    ...(retention && { retention }),
    handler: { responseMode: 'sse', ...handler },
    factory: (node) => (context) => {
      const server = Object.assign(new ScriptedServer(script(node, context.restored), context), { node })
      built.push(server)
      return server
    },
  })
  const [A, B, C] = world.nodes as [SimulatedNode, SimulatedNode, SimulatedNode]
  current = world
  const driver = new Driver(world, { ...(principal && { principal }), ...(version && { version }) })
  await driver.open(A)
  return {
    world,
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
export function pages(message: JSONRPCRequest) {
  const page = Number(message.params?.cursor ?? 0)
  return { tools: [TOOLS[page]], ...(page + 1 < TOOLS.length && { nextCursor: String(page + 1) }) }
}

export const hangOnA: NodeScript = (node) => ({
  'tools/list': pages,
  'tools/call': () => (node === 'A' ? UNANSWERED : { node }),
})

export async function started({ driver, on }: Cluster, method: string): Promise<void> {
  await driver.until(() => on('A').some((server) => server.all(method).length > 0))
}

/** The log's events of the stream that a cursor is of. */
export async function logOf({ driver, world }: Cluster, lastEventId: string | undefined) {
  const { stream } = parseEventId(lastEventId)
  const slice = await world.network.truth.events.read(driver.session as string, stream, 0, 1000)
  return { ...slice, messages: slice?.events.map(({ data }) => JSON.parse(data)) ?? [] }
}

/** A call on A, whose client has a cursor. */
export async function called(on: Cluster, method: string, params?: Record<string, unknown>): Promise<Visit> {
  const call = on.driver.request(on.A, 7, method, params)
  await started(on, method)
  await on.driver.until(() => call.lastEventId !== undefined)
  return call
}
