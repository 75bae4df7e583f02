/**
 * A node that is gone, or seemed to be: whoever follows its streams gets one answer, and soon (DESIGN, "Dead node").
 * `CHAOS_SECONDS` set: in every pairing.
 */
import { describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import { urlDoor } from '../harness/door.js'
import { parseEventId } from '../harness/event-id.js'
import { SDKS, type Sdk } from '../harness/server.js'
import { WireClient } from '../harness/wire-client.js'
import { until } from '../harness/within.js'
import { Balancer } from './balancer.js'
import { type Call, ChaosClient } from './client.js'
import { BACKENDS, Cluster, HEARTBEAT_TTL } from './cluster.js'
import type { Run } from './tools.js'

/** In every pairing; else each line in one of them. */
const LONG = process.env.CHAOS_SECONDS !== undefined
const KILLS: { sdk: Sdk; where: 'another node' | 'the node itself' }[] = [
  { sdk: 'v1', where: 'another node' },
  { sdk: 'v2', where: 'the node itself' },
]
if (LONG) KILLS.push({ sdk: 'v2', where: 'another node' }, { sdk: 'v1', where: 'the node itself' })
const PAUSES: readonly Sdk[] = LONG ? SDKS : ['v2']

/** How long an answer may take once the node is gone, in ms, on a machine that has time. */
const LIMIT = HEARTBEAT_TTL + 1000
/** Calls that are as much work as what follows a node's death, or more. */
const WORK = 5
const BOUND = 30_000
const TIMEOUT = 60_000
/** The work of the safe call, which is done twice, in ms. */
const SAFE_WORK = 2000

describe.each(BACKENDS)('$name', (backend) => {
  /** Two nodes; two calls that run on A: one that must not run twice and would take half a minute, and one that may. */
  async function running(sdk: Sdk) {
    const cluster = await Cluster.start(backend, { sdk, retryInterval: 100 }, 2)
    onTestFinished(() => cluster.stop())
    const [a, b] = cluster.nodes as [(typeof cluster.nodes)[0], (typeof cluster.nodes)[0]]
    onTestFailed(() => console.error([...a.lines.all.slice(-20), ...b.lines.all.slice(-20)].join('\n')))
    const balancer = await Balancer.start([a.origin, b.origin], { interval: 0 })
    onTestFinished(() => balancer.close())
    balancer.rotation = [a.origin]
    const client = await ChaosClient.connect(sdk, balancer.url)
    onTestFinished(() => client.close())
    const calls = [
      client.call('long_once', { steps: 300, ms: 100 }, BOUND),
      client.call('long', { steps: 1, ms: SAFE_WORK }, BOUND),
    ]
    const [once, again] = client.calls as [Call, Call]
    await until(() => once.progress.length > 1 && again.resumable, 'both streams')
    const follow = async (node: typeof a) => {
      balancer.rotation = [node.origin]
      while (balancer.streams > 0) balancer.cut(0, false)
      const from = once.progress.length
      if (node === b) await until(() => once.progress.length > from + 1, 'progress from A through B')
    }
    /** What the machine takes for that work as it is now, in ms: next to nothing, if nobody else uses it. */
    const pace = async () => {
      const begun = performance.now()
      for (let call = 0; call < WORK; call++) await client.call('short', { steps: 0, ms: 0 }, BOUND)
      return performance.now() - begun
    }
    return { cluster, a, b, balancer, client, calls, once, again, follow, pace }
  }

  const runs = (cluster: Cluster, { key }: Call, what: Run['what']) =>
    cluster.runs().filter((run) => run.key === key && run.what === what)

  test.each(KILLS)(
    'calls ($sdk) followed on $where are answered within the heartbeat’s TTL and a second after a kill',
    async ({ sdk, where }) => {
      const { cluster, a, b, balancer, client, calls, once, again, follow, pace } = await running(sdk)
      const limit = LIMIT + (await pace())
      if (where === 'another node') await follow(b)
      else balancer.rotation = [b.origin]
      const killed = performance.now()
      const took = calls.map((call) => call.then(() => performance.now() - killed))
      await a.kill()
      const [first = 0, second = 0] = await Promise.all(took)
      console.log(
        `${backend.name}, ${sdk}, followed on ${where}: outcome unknown after ${Math.round(first)} ms, ` +
          `safe call of ${SAFE_WORK} ms run again and answered after ${Math.round(second)} ms`,
      )
      expect(once.outcome, once.why).toBe('unknown')
      expect(again.outcome, again.why).toBe('ok')
      expect(first).toBeLessThan(limit)
      expect(second).toBeLessThan(limit + SAFE_WORK)
      expect(once.progress).toEqual(once.progress.map((_, index) => index + 1))
      expect(again.progress).toEqual([1])
      expect(runs(cluster, once, 'begun')).toHaveLength(1)
      expect(runs(cluster, again, 'begun')).toHaveLength(2)
      expect(client.doubled).toEqual([])
      expect(client.initializes).toBe(1)
      expect(client.sessionIds.size).toBe(1)
    },
    TIMEOUT,
  )

  test.each(PAUSES)(
    'a node (%s) that was paused past its TTL and comes back has nothing more to say',
    async (sdk) => {
      const { cluster, a, b, balancer, client, calls, once, again, follow, pace } = await running(sdk)
      const limit = LIMIT + (await pace())
      await follow(b)
      const pid = a.pid
      a.pause()
      const paused = performance.now()
      await calls[0]
      const took = performance.now() - paused
      // it comes back while the other call is being run again
      a.resume()
      await calls[1]
      console.log(`${backend.name}, ${sdk}, paused: outcome unknown after ${Math.round(took)} ms`)
      expect(once.outcome, once.why).toBe('unknown')
      expect(again.outcome, again.why).toBe('ok')
      expect(again.pid).toBe(b.pid)
      expect(took).toBeLessThan(limit)
      const unheard = () => runs(cluster, once, 'aborted').some((run) => run.pid === pid)
      await until(unheard, 'the end of what nobody hears')
      for (const call of [once, again]) {
        const messages = await stream(balancer.url, client, call)
        expect(messages.filter((message) => !('method' in message))).toHaveLength(1)
        expect(messages.slice(0, -1).map((message) => message.params?.progress)).toEqual(call.progress)
        expect('method' in (messages.at(-1) ?? {})).toBe(false)
      }
      expect(client.doubled).toEqual([])
      expect(runs(cluster, once, 'begun')).toHaveLength(1)
      expect(client.initializes).toBe(1)
    },
    TIMEOUT,
  )
})

/** All of the stream that answered a call, from its beginning to its end. */
async function stream(url: string, client: ChaosClient, { token }: Call) {
  const { tag, stream } = parseEventId(token)
  const wire = new WireClient(urlDoor(url), [...client.sessionIds][0] ?? '')
  const reply = await wire.get(`${tag}.${stream}.0`)
  expect(reply.status).toBe(200)
  return (await reply.rest()).map(({ message }) => message)
}
