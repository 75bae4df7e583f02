/** Real clients of both SDK lines, whose every request goes to another node: a proxy without affinity. */
import { beforeAll, beforeEach, describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import { connectClient } from '../harness/client.js'
import { FEATURES, HANDLERS } from '../harness/features.js'
import { Scene } from '../harness/scene.js'
import { SDKS, type Sdk } from '../harness/server.js'
import { type Cluster, describeBackends, startCluster } from './cluster.js'

describeBackends((backend, name) => {
  const isFull = name === 'SQLite' || name === 'Redis'
  let cluster: Cluster

  async function connect(sdk: Sdk): Promise<Scene> {
    const client = await connectClient(sdk, cluster.url, { handlers: HANDLERS })
    onTestFinished(() => client.close())
    return new Scene(client, cluster.nodes)
  }

  describe.each(SDKS)('a server of %s', (serverSdk) => {
    beforeAll(async () => {
      cluster = await startCluster({ sdk: serverSdk, backend })
      return () => cluster.stop()
    })

    beforeEach(() => {
      onTestFailed(() => console.error(cluster.log))
    })

    function expectOneSession({ client }: Scene): void {
      expect(client.wire.count('initialize')).toBe(1)
      expect(client.wire.sessionIds).toEqual([client.sessionId()])
    }

    if (isFull) {
      describe.each(SDKS)('a client of %s', (clientSdk) => {
        test.each(Object.entries(FEATURES))('%s', async (_, feature) => {
          const scene = await connect(clientSdk)
          await feature(scene)
          expectOneSession(scene)
        })
      })
      return
    }

    // Which lines meet is of no concern to a backend.
    test(`a client of ${serverSdk} does all of it in one session, and ends it`, { timeout: 60_000 }, async () => {
      const scene = await connect(serverSdk)
      for (const feature of Object.values(FEATURES)) await feature(scene)
      expectOneSession(scene)
      await scene.client.terminate()
    })
  })
})
