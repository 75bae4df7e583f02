/** Three nodes restarted one by one under constant load, behind a balancer that tries nothing twice. */
import { describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import { seeded } from '../harness/random.js'
import { SDKS } from '../harness/server.js'
import { Balancer } from './balancer.js'
import { type Call, ChaosClient } from './client.js'
import { BACKENDS, Cluster, type Node } from './cluster.js'
import { disorder, load, table } from './load.js'

/** Twice what the balancer takes to notice: its interval, and its patience. */
const NOTICE = 1000
const BOUND = 25_000

describe.each(BACKENDS)('$name', (backend) => {
  /** What all calls came to while each node was ended and started again. */
  async function roll(end: (node: Node) => Promise<void>): Promise<{ calls: Call[]; clients: ChaosClient[] }> {
    const drain = { notice: NOTICE, timeout: 1000 }
    const cluster = await Cluster.start(backend, { sdk: 'v2', retryInterval: 100, drain })
    onTestFinished(() => cluster.stop())
    onTestFailed(() => console.error(cluster.nodes.flatMap(({ lines }) => lines.all.slice(-20)).join('\n')))
    const balancer = await Balancer.start(cluster.nodes.map(({ origin }) => origin))
    onTestFinished(() => balancer.close())
    const clients = await Promise.all([...SDKS, ...SDKS].map((sdk) => ChaosClient.connect(sdk, balancer.url)))
    onTestFinished(async () => {
      for (const client of clients) await client.close()
    })
    let over = false
    const loaded = load(clients, seeded(1), { width: 3, bound: BOUND, over: () => over })
    try {
      for (const node of cluster.nodes) {
        await end(node)
        await node.start()
        // the next one is not ended before this one is back
        await balancer.takes(node.origin)
      }
    } finally {
      over = true
    }
    return { calls: await loaded, clients }
  }

  test('with drain, no call fails', async () => {
    const { calls, clients } = await roll((node) => node.terminate())
    console.log(`${backend.name}: rolling restart with drain\n${table(calls)}`)
    expect(calls.filter(({ outcome }) => outcome !== 'ok').map(({ tool, why }) => `${tool}: ${why}`)).toEqual([])
    expect(calls.length).toBeGreaterThan(50)
    expect(calls.flatMap(disorder)).toEqual([])
    for (const client of clients) {
      expect(client.doubled).toEqual([])
      expect(client.initializes).toBe(1)
      expect(client.sessionIds.size).toBe(1)
    }
  }, 90_000)

  test('without drain, for comparison: every call ends, and what fails is unknown or was cut', async () => {
    const { calls } = await roll((node) => node.kill())
    const failed = calls.filter(({ outcome }) => outcome !== 'ok').length
    console.log(`${backend.name}: rolling restart without drain, ${failed} of ${calls.length} failed\n${table(calls)}`)
    const honest = ['ok', 'unknown', 'unanswered', 'cut']
    const others = calls.filter(({ outcome }) => !honest.includes(outcome ?? ''))
    expect(others.map(({ tool, outcome, why }) => `${tool} ${outcome}: ${why}`)).toEqual([])
    expect(calls.flatMap(disorder)).toEqual([])
  }, 90_000)
})
