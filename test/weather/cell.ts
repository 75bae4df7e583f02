/** One cell of the table: one fault on one backend, with everything started for it, and stopped after it. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { Balancer } from '../chaos/balancer.js'
import { seeded } from '../harness/random.js'
import { SDKS } from '../harness/server.js'
import type { Backend } from './backends.js'
import type { Caller } from './caller.js'
import type { Fault } from './fault.js'
import { type Judgement, judge } from './judge.js'
import { type Call, Log } from './log.js'
import { Nodes } from './nodes.js'
import { SdkCaller } from './sdk-caller.js'
import type { Store } from './store.js'
import { BOUND } from './terms.js'
import { REVISIONS, WireCaller } from './wire-caller.js'
import { callOn, count, Graveyard, untilServed } from './work.js'

export interface CellOptions {
  seed: number
  /** Clients of each revision, of each SDK line, and those whose sessions are deleted. */
  wire: number
  sdk: number
  visitors: number
  /** From the beginning of work to the fault, and from recovery to the end of work, in ms. */
  calm: number
}

export interface Result extends Judgement {
  backend: string
  fault: string
  seed: number
  /** Until the last client was served again, in ms. */
  recovery: number
  /** How long after that the slowest notification was on its way, in ms. */
  delay: number
  /** The longest time for which this process, and so its clients, stood still, in ms: what is above this machine's doing. */
  stall: number
  /** The slowest simple call before the fault, in ms. */
  usual: number
  /** What the nodes wrote, if a promise was not kept. */
  nodeLog: string[]
}

/** When nodes are asked how they do: often enough to see trouble soon, and not in it for a slow answer of a busy machine. */
const HEALTH = { interval: 250, patience: 1000, answerTimeout: 15_000 }

/** @returns Undefined: the fault cannot be had on this machine. */
export async function runCell<S extends Store>(
  backend: Backend<S>,
  fault: Fault<S>,
  options: CellOptions,
): Promise<Result | undefined> {
  const { seed } = options
  const random = seeded(seed + hash(`${backend.name} ${fault.name}`))
  const stops: (() => Promise<unknown>)[] = []
  const until = <T>(thing: T, stop: (thing: T) => Promise<unknown>): T => {
    stops.unshift(() => stop(thing))
    return thing
  }
  const phase: Phase = { over: false, done: false }
  const stalls = monitorEventLoopDelay({ resolution: 10 })
  try {
    const store = until(await backend.start(), (each) => each.stop())
    if (fault.possible?.(store) === false) return undefined
    const nodes = until(await Nodes.start(store, random.pick(SDKS)), (each) => each.stop())
    const origins = nodes.all.map(({ origin }) => origin)
    const balancer = until(await Balancer.start(origins, HEALTH), (each) => each.close())
    const log = new Log()
    const callers = await connect(balancer.url, log, options)
    for (const caller of callers) until(caller, (each) => each.close())
    stalls.enable()

    const graveyard = new Graveyard(balancer.url, log)
    const ended = work(balancer.url, { log, callers, graveyard, phase }, options)
    await delay(options.calm)
    const from = log.now
    await fault.strike({ store, nodes, balancer, random, victim: random.pick(nodes.all) })
    const struck = { from, to: log.now }
    const served = Promise.all(callers.map((caller) => untilServed(caller, () => phase.over)))
    const recoveries = await Promise.race([served, delay(BOUND, [BOUND], { ref: false })])
    await delay(options.calm)
    phase.over = true

    // the others' streams are known to go wrong
    const steady = () => callers.filter(({ name }) => !log.forgetful.has(name))
    // what is on its way has until now to come
    const deadline = Math.max(struck.to + BOUND, log.now + BOUND / 2)
    const settled = async () => {
      await ended
      while (!phase.done && steady().some(({ numbers }) => numbers.missing.length > 0)) await delay(50)
    }
    await Promise.race([settled(), delay(deadline - log.now, undefined, { ref: false })])
    phase.done = true
    stalls.disable()
    for (const call of log.calls) log.end(call, 'hung', 'it never ended')

    const lines = nodes.all.flatMap(({ origin, lines }) => lines.all.map((line) => `${origin} ${line}`))
    const { graves } = graveyard
    const evidence = { backend: backend.name, fault: fault as Fault, struck, recoveries, log, callers, graves, lines }
    const judgement = judge({ ...evidence, runs: nodes.runs() })
    return {
      ...{ backend: backend.name, fault: fault.name, seed, ...judgement },
      recovery: Math.max(...recoveries),
      delay: Math.max(...steady().map(({ numbers }) => numbers.delay(struck.to))),
      usual: slowest(log.calls.filter(({ tool, ended = from }) => tool === 'short' && ended < from)),
      stall: Math.round(stalls.max / 1e6),
      nodeLog: judgement.violations.length > 0 ? lines.slice(-200) : [],
    }
  } finally {
    phase.over = true
    phase.done = true
    for (const stop of stops) await stop().catch(() => {})
  }
}

interface Phase {
  /** Nobody begins anything new. */
  over: boolean
  /** Nobody waits any longer. */
  done: boolean
}

async function connect(url: string, log: Log, { wire, sdk }: CellOptions): Promise<Caller[]> {
  const callers: Caller[] = []
  for (let i = 0; i < wire; i++) {
    for (const revision of REVISIONS) callers.push(await WireCaller.connect(url, revision, `${revision}-${i}`, log))
  }
  for (let i = 0; i < sdk; i++) {
    for (const line of SDKS) callers.push(await SdkCaller.connect(url, line, `${line}-${i}`, log))
  }
  return callers
}

/** Resolves when all that was begun has ended. */
async function work(
  url: string,
  { log, callers, graveyard, phase }: { log: Log; callers: readonly Caller[]; graveyard: Graveyard; phase: Phase },
  { seed, visitors }: CellOptions,
): Promise<void> {
  const over = () => phase.over
  await Promise.all([
    ...callers.map((caller, i) => callOn(caller, seeded(seed + i), over)),
    ...Array.from({ length: visitors }, (_, i) => graveyard.visit(seeded(seed + i), over)),
    ...callers.map((caller) => count(url, caller, log, over)),
  ])
  await graveyard.lookAtAll(() => phase.done)
}

function slowest(calls: readonly Call[]): number {
  return Math.max(0, ...calls.map(({ begun, ended = begun }) => ended - begun))
}

/** The same for the same text, so that one cell alone goes as it goes among all. */
function hash(text: string): number {
  let sum = 0
  for (let i = 0; i < text.length; i++) sum = (Math.imul(sum, 31) + text.charCodeAt(i)) | 0
  return sum
}
