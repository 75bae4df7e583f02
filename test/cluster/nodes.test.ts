/** What clients see when nodes die, freeze, and go on serving. */
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { later } from '../harness/later.js'
import type { SseBlock } from '../harness/sse.js'
import {
  ACCEPTED,
  DEATH,
  echo,
  find,
  GONE,
  heard,
  isElicitation,
  isLog,
  on,
  ownCluster,
  rest,
  statuses,
  stream,
  untilNot,
  WITH_ELICITATION,
} from './calls.js'
import { A, B, C } from './cluster.js'

describe.concurrent('a node', () => {
  test.for(on('SQLite', 'Redis', 'PostgreSQL'))(
    'that was killed ($name): 202 is not answered for what it should have got, and its call ends',
    { timeout: 60_000 },
    async ({ name, backend }, context) => {
      const cluster = await ownCluster(context, { sdk: 'v1', backend })
      const client = await cluster.open(WITH_ELICITATION)
      const asking = await stream(client, cluster, A, 'ask', { message: 'm' })
      const question = await find(asking, isElicitation, 'the question')
      const holding = await stream(client, cluster, A, 'hold', { name: client.sessionId })
      const repeatable = await stream(client, cluster, A, 'slow_again', { steps: 30, ms: 20 })
      const begun = (await repeatable.next()) as SseBlock
      // Another way to the session, so that B is not asked to restore it only now.
      expect((await echo(client, cluster, B)).status).toBe(200)
      await cluster.node(A).kill()

      const respond = () => client.on(cluster.at(B)).respond(question.message.id, { ...ACCEPTED })
      // Nodes on one machine see at once that a process is gone; others, when its time to live is over.
      if (name !== 'SQLite') {
        expect(await respond()).toMatchObject({ status: 503, retryAfter: '1', body: { error: { code: -32603 } } })
      }
      // Nobody waits for it any more: it cannot be delivered at all.
      expect(await untilNot(503, respond, DEATH)).toMatchObject({ status: 400, body: { error: { code: -32000 } } })

      await Promise.all([heard(asking), heard(holding)])
      for (const { lastEventId } of [asking, holding]) {
        const resumed = await client.on(cluster.at(C)).get(lastEventId)
        const events = await rest(resumed, DEATH)
        expect(events.map(({ message }) => message)).toEqual([
          expect.objectContaining({ error: expect.objectContaining({ data: { reason: 'outcome-unknown' } }) }),
        ])
      }
      const seen = [begun, ...(await heard(repeatable))]
      // What is safe to repeat is done again, and goes on where the client has got to.
      const resumed = await client.on(cluster.at(C)).get(repeatable.lastEventId)
      const messages = [...seen, ...(await rest(resumed, DEATH))].map(({ message }) => message)
      expect(messages.pop().result.content[0].text).toBe('30 steps')
      expect(messages.map(({ params }) => params.progress)).toEqual(Array.from({ length: 30 }, (_, step) => step + 1))
      expect((await echo(client, cluster, C)).status).toBe(200)
    },
  )

  test.for(on('SQLite', 'Redis', 'PostgreSQL'))(
    'keeps sessions that it serves ($name) from expiring, and lets the others go',
    { timeout: 60_000 },
    async ({ backend }, context) => {
      const idleTtl = 6_000
      const cluster = await ownCluster(context, { sdk: 'v2', backend, options: { idleTtl } })
      const [used, followed, idle] = await Promise.all([cluster.open(), cluster.open(), cluster.open()])
      const standalone = await followed.on(cluster.at(C)).get()
      const began = Date.now()
      // Past the time to live that each began with, by calls on B alone.
      while (Date.now() - began < 1.6 * idleTtl) {
        expect((await echo(used, cluster, B)).status).toBe(200)
        await delay(100)
      }
      for (const node of [A, B, C]) expect((await echo(used, cluster, node)).status).toBe(200)
      expect((await echo(followed, cluster, B)).status).toBe(200)
      expect(await statuses(idle, cluster)).toEqual(GONE)
      await standalone.leave()
      await delay(1.3 * idleTtl)
      expect(await statuses(used, cluster)).toEqual(GONE)
    },
  )

  test.for(on('Redis Cluster', 'PostgreSQL'))(
    'that does not answer for a while ($name): 503 until it does, and the answer gets through',
    { timeout: 60_000 },
    async ({ backend }, context) => {
      const cluster = await ownCluster(context, { sdk: 'v2', backend })
      const client = await cluster.open(WITH_ELICITATION)
      const asking = await stream(client, cluster, A, 'ask', { message: 'm' })
      const question = await find(asking, isElicitation, 'the question')
      expect((await echo(client, cluster, B)).status).toBe(200)
      const respond = () => client.on(cluster.at(B)).respond(question.message.id, { ...ACCEPTED })
      cluster.node(A).pause()
      expect(await respond()).toMatchObject({ status: 503, retryAfter: '1' })
      cluster.node(A).resume()
      // Delivered by this one; or by the one before, whose delivery was not known of: then nothing waits for it any more.
      expect([202, 400]).toContain((await untilNot(503, respond, DEATH)).status)
      const [answer] = await rest(asking)
      expect(answer?.message.result.content[0].text).toMatch(/^action=accept/)
    },
  )

  test.for(on('SQLite', 'Redis', 'PostgreSQL'))(
    'that slept past its time to live ($name) steps back: it serves nothing deleted, and writes nothing into a stream that another one has finished',
    { timeout: 60_000 },
    async ({ backend }, context) => {
      const cluster = await ownCluster(context, { sdk: 'v1', backend })
      const [deleted, kept] = await Promise.all([cluster.open(), cluster.open()])
      const deletedStream = await deleted.on(cluster.at(A)).get()
      const log = await kept.on(cluster.at(C)).get()
      const call = await stream(kept, cluster, A, 'slow', { steps: 100_000, ms: 20 })
      const first = (await call.next()) as SseBlock
      const resumed = await kept.on(cluster.at(B)).get(first.id)
      const seen: SseBlock[] = [(await resumed.next()) as SseBlock]

      cluster.node(A).pause()
      const deletion = later(deleted.on(cluster.at(B)).delete())
      seen.push(...(await rest(resumed, DEATH + 4_000)))
      expect(seen.at(-1)?.message).toMatchObject({ error: { data: { reason: 'outcome-unknown' } } })
      expect((await deletion).status).toBe(200)
      expect((await echo(deleted, cluster, B)).status).toBe(404)
      cluster.node(A).resume()

      // It may find its connection to the store broken, and cannot know then; it never serves.
      expect((await untilNot(503, () => echo(deleted, cluster, A), DEATH)).status).toBe(404)
      await rest(deletedStream)
      // Its handler is told that nobody hears it.
      await find(log, isLog('slow aborted'), 'the end of the handler on A')
      const replay = await kept.on(cluster.at(C)).get(first.id)
      expect(await rest(replay)).toEqual(seen)
      const progress = seen.slice(0, -1).map(({ message }) => message.params.progress)
      expect(progress).toEqual(Array.from(progress, (_, index) => index + 2))
      expect((await echo(kept, cluster, A)).status).toBe(200)
      await log.leave()
    },
  )
})
