/** What is told between nodes may get lost: it makes them slower, not wrong (invariants 6 and 8). */
import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest'
import { later } from '../harness/later.js'
import type { SseBlock } from '../harness/sse.js'
import { within } from '../harness/within.js'
import { echo, find, GONE, isLog, rest, STALENESS, statuses, stream, toolCall, untilNot } from './calls.js'
import { A, B, C, type Cluster, describeBackends, startCluster } from './cluster.js'

describeBackends(
  (backend) => {
    let cluster: Cluster

    beforeAll(async () => {
      cluster = await startCluster({ sdk: 'v1', backend })
      return () => cluster.stop()
    })

    beforeEach(async () => {
      await cluster.each((node) => node.loseMessages(false))
    })

    test('while every message between nodes is lost, nothing is that clients sent, and DELETE is final within seconds', async () => {
      onTestFailed(() => console.error(cluster.log))
      const [told, levelled, deleted] = await Promise.all([cluster.open(), cluster.open(), cluster.open()])
      for (const node of [B, C]) for (const client of [told, levelled, deleted]) await echo(client, cluster, node)
      const toldStream = await told.on(cluster.at(C)).get()
      const deletedStream = await deleted.on(cluster.at(C)).get()
      const call = await stream(deleted, cluster, B, 'hold', { name: deleted.sessionId })
      await cluster.each((node) => node.loseMessages(true))

      const tellsFromAfar = async () => {
        await told.on(cluster.at(A)).post(toolCall('log', { level: 'error', text: 'from A' }))
        await find(toldStream, isLog('from A'), 'a message of A on the stream of C')
      }
      const obeysFromAfar = async () => {
        const standalone = await levelled.on(cluster.at(B)).get()
        expect((await levelled.on(cluster.at(A)).request('logging/setLevel', { level: 'error' })).status).toBe(200)
        // B asks the store before it is too old; until then it may not know.
        const deadline = Date.now() + STALENESS
        for (let i = 0; ; i++) {
          await levelled.on(cluster.at(B)).post(toolCall('log', { level: 'info', text: 'quiet' }))
          await levelled.on(cluster.at(B)).post(toolCall('log', { level: 'error', text: `loud ${i}` }))
          if (isLog(`loud ${i}`)(await standalone.next().then((event) => event as SseBlock))) break
          await find(standalone, isLog(`loud ${i}`), 'a loud message')
          expect(Date.now(), 'the level is still not in force').toBeLessThan(deadline)
          await delay(200)
        }
        await standalone.leave()
      }
      const deletesFromAfar = async () => {
        expect((await deleted.on(cluster.at(A)).delete()).status).toBe(200)
        expect((await echo(deleted, cluster, A)).status).toBe(404)
        await Promise.all([
          untilNot(200, () => echo(deleted, cluster, B), STALENESS).then(({ status }) => expect(status).toBe(404)),
          untilNot(200, () => echo(deleted, cluster, C), STALENESS).then(({ status }) => expect(status).toBe(404)),
          cluster
            .node(B)
            .lines.first((line) => line === `aborted ${deleted.sessionId}`, 'the end of the call', { ms: STALENESS }),
          rest(call, STALENESS).then((events) => expect(events).toEqual([])),
          rest(deletedStream, STALENESS).then((events) => expect(events).toEqual([])),
        ])
        expect(await statuses(deleted, cluster)).toEqual(GONE)
      }
      await Promise.all([tellsFromAfar(), obeysFromAfar(), deletesFromAfar()])
    })

    test('while every message between nodes is lost, a connection that was replaced elsewhere finds out by itself, and passes nothing on', async () => {
      onTestFailed(() => console.error(cluster.log))
      const client = await cluster.open()
      for (const node of [B, C]) await echo(client, cluster, node)
      await cluster.each((node) => node.loseMessages(true))
      const older = await client.on(cluster.at(A)).get()
      const newer = await client.on(cluster.at(B)).get()
      const seen: SseBlock[] = []
      const read = async () => {
        for await (const event of older) seen.push(event)
      }
      const end = later(read())
      await client.on(cluster.at(C)).post(toolCall('log', { level: 'info', text: 'once' }))
      await find(newer, isLog('once'), 'the message on the newer stream')
      // Nobody told it that it is not the one any more: it finds out.
      await within(end, `the end of the older stream, which has got ${JSON.stringify(seen)}`, STALENESS).finally(() =>
        expect(seen, 'on the older stream').toEqual([]),
      )
      await newer.leave()
    })
  },
  ['SQLite', 'Redis', 'PostgreSQL'],
)
