/** What the official runner says of three nodes behind a proxy that sends each request to the next one. */
import { expect, test } from 'vitest'
import { runConformance } from '../conformance/runner.js'
import { SDKS } from '../harness/server.js'
import { describeBackends, startCluster } from './cluster.js'

describeBackends((backend) => {
  test.concurrent.each(SDKS)('a %s server conforms', { timeout: 90_000 }, async (sdk) => {
    const cluster = await startCluster({ sdk, backend })
    try {
      const report = await runConformance(cluster.url)
      expect(report.complaints, `${report.text}\n${cluster.log}`).toEqual([])
      // All there are in this version of the runner; a run that stops early is not a pass.
      expect(report.scenarios).toHaveLength(32)
      // No node was spared.
      for (const node of cluster.nodes) {
        const { fresh, restored } = await node.stats()
        expect(fresh).toBeGreaterThan(0)
        expect(restored).toBeGreaterThan(0)
      }
    } finally {
      await cluster.stop()
    }
  })
})
