/**
 * Everything at once: real nodes, real SDK clients of both lines, and a balancer, while nodes are killed, paused, drained and
 * restarted, connections cut, and the backend restarted. `CHAOS_SEED=<n>` repeats a schedule; `CHAOS_SECONDS=<n>` makes it
 * longer (default 12), with both SDK lines as servers.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import { type Random, seeded } from '../harness/random.js'
import { SDKS } from '../harness/server.js'
import { Balancer } from './balancer.js'
import { type Call, ChaosClient } from './client.js'
import { BACKENDS, Cluster, HEARTBEAT_TTL, type Node } from './cluster.js'
import { disorder, load, table } from './load.js'
import { TOOLS } from './tools.js'

const LONG = process.env.CHAOS_SECONDS !== undefined
const DURATION = 1000 * Number(process.env.CHAOS_SECONDS ?? 12)
const SEED = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 31))
/** A call takes 1.5 s, and as much again each time that a node is found dead under it; three times is what may happen. */
const BOUND = 3 * (HEARTBEAT_TTL + 1500) + 5000
/** How long after its backend has come back a node may still refuse, in ms: one wait for an answer, and one more. */
const RECOVERY = 6000

const DISTURBANCES = ['cut', 'cut in an event', 'kill', 'pause', 'drain', 'restart the backend'] as const
type Disturbance = (typeof DISTURBANCES)[number]

class Storm {
  /** What was done, and when, in ms since the start. */
  readonly done: { what: Disturbance; at: number }[] = []
  /** When the backend was away, in ms since the start. */
  readonly away: { from: number; to: number }[] = []
  #busy = new Set<Node>()
  #running = new Set<Promise<void>>()
  #restarting = false
  #t0 = performance.now()

  constructor(
    private readonly cluster: Cluster,
    private readonly balancer: Balancer,
    private readonly random: Random,
  ) {}

  get now(): number {
    return performance.now() - this.#t0
  }

  /** Each disturbance once in the beginning, in some order, and then any, until the time is up and all is well again. */
  async rage(duration: number): Promise<void> {
    const { random } = this
    const first = [...DISTURBANCES].map((what) => ({ what, at: random.below(1000) }))
    const agenda = first.sort((a, b) => a.at - b.at).map(({ what }) => what)
    while (this.now < duration) {
      const due = agenda.findIndex((what) => this.#may(what))
      const what = due >= 0 ? agenda.splice(due, 1)[0] : random.pick(DISTURBANCES)
      const disturbed = what !== undefined && this.#may(what) ? this.#disturb(what) : Promise.resolve()
      this.#running.add(disturbed)
      disturbed.finally(() => this.#running.delete(disturbed)).catch(() => {})
      // connections are cut all the time
      for (let cuts = random.below(4); cuts > 0; cuts--) {
        await delay(random.between(50, 200))
        await this.#disturb(random.chance(0.5) ? 'cut' : 'cut in an event')
      }
      await delay(random.between(50, 300))
    }
    await Promise.all(this.#running)
  }

  get #well(): Node[] {
    return this.cluster.nodes.filter((node) => !this.#busy.has(node))
  }

  #may(what: Disturbance): boolean {
    if (what === 'restart the backend') return this.cluster.backend.restart !== undefined && !this.#restarting
    // one node is left to serve
    return what.startsWith('cut') || this.#well.length > 1
  }

  async #disturb(what: Disturbance): Promise<void> {
    const { random, balancer, cluster } = this
    const at = this.now
    switch (what) {
      case 'cut':
      case 'cut in an event': {
        const { streams } = balancer
        if (streams === 0) return
        this.done.push({ what, at })
        balancer.cut(random.below(streams), what !== 'cut')
        return
      }
      case 'restart the backend': {
        const { kill, restart } = cluster.backend
        if (!kill || !restart) return
        this.done.push({ what, at })
        this.#restarting = true
        await kill()
        await restart()
        this.#restarting = false
        this.away.push({ from: at, to: this.now })
        return
      }
      default:
        await this.#disturbNode(what, at)
    }
  }

  async #disturbNode(what: 'kill' | 'pause' | 'drain', at: number): Promise<void> {
    const { random, balancer } = this
    const node = random.pick(this.#well)
    this.#busy.add(node)
    this.done.push({ what, at })
    if (what === 'pause') {
      balancer.shutdownSessions = random.chance(0.5)
      node.pause()
      await delay(HEARTBEAT_TTL + random.between(500, 1500))
      node.resume()
      // a process that stands still within a transaction keeps SQLite's lock, and all others out
      if (!this.cluster.backend.restart) this.away.push({ from: at, to: this.now })
    } else {
      await (what === 'kill' ? node.kill() : node.terminate())
      // a node that starts while its backend is away ends again
      while (this.#restarting) await delay(50)
      await node.start().catch(() => node.start())
    }
    await balancer.takes(node.origin)
    this.#busy.delete(node)
  }
}

describe.each(BACKENDS.map((backend, index) => ({ ...backend, index })))('$name', (backend) => {
  const servers = LONG ? SDKS : [SDKS[backend.index % 2] ?? 'v2']

  test.each(servers)(
    'nodes of %s: nobody hangs, and nothing is lost or doubled',
    async (sdk) => {
      const random = seeded(SEED)
      const cluster = await Cluster.start(backend, {
        sdk,
        retryInterval: 100,
        backendTimeout: 3000,
        drain: { notice: 800, timeout: 800 },
      })
      onTestFinished(() => cluster.stop())
      onTestFailed(() =>
        console.error(`seed ${SEED}\n${cluster.nodes.flatMap(({ lines }) => lines.all.slice(-30)).join('\n')}`),
      )
      const balancer = await Balancer.start(cluster.nodes.map(({ origin }) => origin))
      onTestFinished(() => balancer.close())
      const sdks = [...SDKS, ...SDKS]
      const clients = await Promise.all(sdks.map((line, i) => ChaosClient.connect(line, balancer.url, `${line}-${i}`)))
      onTestFinished(async () => {
        for (const client of clients) await client.close()
      })

      const storm = new Storm(cluster, balancer, random)
      let over = false
      const loaded = load(clients, seeded(SEED + 1), { width: 4, bound: BOUND, over: () => over })
      try {
        await storm.rage(DURATION)
      } finally {
        over = true
      }
      const calls = await loaded
      console.log(report(`${backend.name}, nodes of ${sdk}, seed ${SEED}`, { calls, storm, clients, cluster }))

      const told = (these: readonly Call[]) =>
        these.map(({ tool, key, outcome, why, client, begun, ended }) => ({
          ...{ tool, key, outcome, why, client },
          at: `${Math.round(begun)}-${Math.round(ended)}`,
        }))
      // every call ended, and what failed did so for a reason that nobody could help
      expect(told(calls.filter(({ outcome }) => outcome === 'hung' || outcome === 'wrong'))).toEqual([])
      const wasAway = ({ ended, begun }: Call) =>
        storm.away.some(({ from, to }) => ended > from - 1000 && begun < to + RECOVERY)
      expect(told(calls.filter((call) => call.outcome === 'away' && !wasAway(call)))).toEqual([])
      // safe calls all succeeded if their client could come back
      const safe = calls.filter(({ tool }) => TOOLS[tool])
      expect(told(safe.filter(({ outcome }) => outcome !== 'ok' && outcome !== 'cut' && outcome !== 'away'))).toEqual(
        [],
      )
      // what came, came in order and once
      // (a client that forgot a cursor has two standalone streams, which take the session's from each other for good)
      const forgetful = new Set(clients.filter(({ cursorless }) => cursorless > 1).map(({ name }) => name))
      expect(calls.flatMap((call) => disorder(forgetful.has(call.client) ? { ...call, aside: [] } : call))).toEqual([])
      for (const client of clients) {
        expect(client.doubled).toEqual([])
        expect(client.initializes).toBe(1)
        expect(client.sessionIds.size).toBe(1)
      }
      // what must not run twice did not
      const begun = cluster.runs().filter(({ what, tool }) => what === 'begun' && !TOOLS[tool])
      expect(begun.map(({ key }) => key).filter((key, index, keys) => keys.indexOf(key) !== index)).toEqual([])
      // an accepted answer was heard (202 means delivered)
      const unheard = calls.filter(
        ({ outcome, key }) => outcome === 'unanswered' && clients.some(({ accepted }) => accepted.has(key)),
      )
      expect(told(unheard)).toEqual([])
      // what was said aside by a node that had the time to say it has arrived
      const killed = new Set(cluster.nodes.flatMap(({ killed }) => [...killed]))
      const muted = calls.filter(
        ({ tool, outcome, pid, aside, steps, client }) =>
          !forgetful.has(client) &&
          tool === 'notify' &&
          outcome === 'ok' &&
          !killed.has(pid ?? 0) &&
          aside.length !== steps,
      )
      expect(muted.map(({ key, aside, steps }) => `${key}: ${aside} of ${steps}`)).toEqual([])
      expect(calls.length).toBeGreaterThan(100)
    },
    DURATION + BOUND + 60_000,
  )
})

function report(
  title: string,
  what: { calls: readonly Call[]; storm: Storm; clients: readonly ChaosClient[]; cluster: Cluster },
): string {
  const { calls, storm, clients, cluster } = what
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  const counts = DISTURBANCES.map((each) => `${each} ${storm.done.filter((done) => done.what === each).length}`)
  const runs = cluster.runs().filter(({ what }) => what === 'begun')
  const asides = calls.filter(({ tool, outcome }) => tool === 'notify' && outcome === 'ok')
  const slowest = Math.max(...calls.map(({ begun, ended }) => ended - begun))
  const refusals = clients.flatMap(({ refusals }) => refusals).sort()
  const tally = [...new Set(refusals)].map((refusal) => `${refusal} × ${refusals.filter((r) => r === refusal).length}`)
  return [
    title,
    table(calls),
    `disturbances: ${counts.join(', ')}`,
    `progress ${sum(calls.map(({ progress }) => progress.length))}, notifications ` +
      `${sum(calls.map(({ own }) => own.length))} on calls and ${sum(calls.map(({ aside }) => aside.length))} aside ` +
      `(${sum(asides.map(({ steps, aside }) => steps - aside.length))} of killed nodes lost), doubled ` +
      `${sum(clients.map(({ doubled }) => doubled.length))}; safe calls run again ${runs.length - new Set(runs.map(({ key }) => key)).size}`,
    `longest call ${Math.round(slowest)} ms; cursors lost by the SDK ${sum(clients.map(({ lostCursors }) => lostCursors))}; ` +
      `answers to servers accepted ${sum(clients.map(({ accepted }) => accepted.size))}, not ` +
      `${sum(clients.map(({ rejected }) => rejected.size))}; refusals: ${tally.join(', ') || 'none'}`,
  ].join('\n')
}
