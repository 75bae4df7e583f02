/** What clients see when the store stalls, or cuts its connections. */
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { connectClient } from '../harness/client.js'
import { later } from '../harness/later.js'
import type { Answer } from '../harness/reply.js'
import { initialize, WireClient } from '../harness/wire-client.js'
import { until, within } from '../harness/within.js'
import { launchPostgres } from '../services/postgres.js'
import { launchRedis } from '../services/redis.js'
import { describeWith, postgresProgram, redisProgram } from '../services/use.js'
import { ACCEPTED, ownCluster, toolCall, UNKNOWN, untilNot } from './calls.js'
import { A, B, C } from './cluster.js'

/** Servers that a test may hurt; launched by hand, because which test is running is not clear among concurrent ones. */
const PRIVATE = [
  {
    name: 'Redis',
    launch: launchRedis,
    /** Cuts the connections over which messages come; how many there were. */
    async cutSubscribers(url: string): Promise<number> {
      const admin = new Redis(url)
      const cut = Number(await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub'))
      admin.disconnect()
      return cut
    },
    program: await redisProgram(),
  },
  {
    name: 'PostgreSQL',
    launch: launchPostgres,
    async cutSubscribers(url: string): Promise<number> {
      const admin = new pg.Client({ connectionString: url })
      await admin.connect()
      // What a connection that listens did last: it began, or ended, a subscription, read messages, or was asked whether it is there.
      const { rowCount } = await admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where pid <> pg_backend_pid() and query ~* '^ *(unlisten |listen |select 1$)|\\.messages'`,
      )
      await admin.end()
      return rowCount ?? 0
    },
    program: await postgresProgram(),
  },
]

/** Of a call that outlasts the stall. */
const STEPS = 150

describe.concurrent('a store', () => {
  for (const { name, launch, cutSubscribers, program } of PRIVATE) {
    describeWith(name, program, (path) => {
      test(`${name} cuts the subscribing connections: messages arrive all the same, and subscriptions come back`, {
        timeout: 60_000,
      }, async (context) => {
        const store = await launch(path)
        context.onTestFinished(() => store.stop())
        const cluster = await ownCluster(context, { sdk: 'v1', backend: store.url })
        const client = await connectClient('v1', cluster.url, {
          handlers: { elicitation: () => ACCEPTED },
          route: ({ method, rpc }) => (method === 'GET' ? C : rpc.length === 0 ? B : A),
        })
        context.onTestFinished(() => client.close())
        const logged = (text: string) =>
          client.notifications.first(({ params }) => params?.data === text, `the message ${text}`)
        await client.call('log', { level: 'info', text: 'before' })
        await logged('before')
        // Not before B has served a request is it one of the nodes that listen.
        expect(await client.call('ask', { message: 'm' })).toContain('accept')

        expect(await cutSubscribers(store.url)).toBe(3)
        const texts = Array.from({ length: 20 }, (_, index) => `after ${index}`)
        for (const text of texts) await client.call('log', { level: 'info', text })
        await logged('after 19')
        const seen = client.notifications.all.map(({ params }) => params?.data)
        expect(seen).toEqual(['before', ...texts])

        // What needs an answer of another node goes through, too.
        expect(await client.call('ask', { message: 'm', aside: true })).toContain('accept')
        client.wire.route = ({ method, rpc }) => (method === 'GET' ? C : rpc.length === 0 ? A : B)
        expect(await client.call('ask', { message: 'm', aside: true })).toContain('accept')
      })

      test(`${name} stalls for 5 s under load: 503, never 404, and everything goes on afterwards`, {
        timeout: 90_000,
      }, async (context) => {
        const store = await launch(path)
        context.onTestFinished(async () => {
          store.resume()
          await store.stop()
        })
        const cluster = await ownCluster(context, { sdk: 'v1', backend: store.url })
        const clients = await Promise.all(Array.from({ length: 12 }, () => cluster.open()))
        // One of a real kind, with a stream and a call that last.
        const real = await connectClient('v1', cluster.url)
        context.onTestFinished(() => real.close())
        const progress: number[] = []
        const onprogress = (step: { progress: number }) => progress.push(step.progress)
        const call = later(real.call('slow_again', { steps: STEPS, ms: 100 }, { onprogress }))

        let isOver = false
        const counts = { served: 0, unavailable: 0 }
        const wrong: unknown[] = []
        const judge = (answer: Answer, isKnown = true) => {
          if (answer.status === 200 && isKnown) counts.served++
          else if (answer.status === 503 && answer.retryAfter !== undefined && answer.body.error.code === -32603)
            counts.unavailable++
          else wrong.push([answer.status, answer.body])
        }
        /** Each request of a session to the next node. */
        const use = async (client: WireClient, from: number) => {
          for (let turn = from; !isOver; turn++) {
            judge(await client.on(cluster.at(turn % 3, 20_000)).post(toolCall('echo', { text: 'e' })))
            await delay(5)
          }
        }
        const load = later(Promise.all(clients.map((client, index) => use(client, index))))
        await until(() => counts.served > 3 * clients.length, 'load that is served')
        expect(counts.unavailable).toBe(0)

        store.pause()
        // What forked while it looked for what there is to be frozen.
        store.pause()
        const stalled = async () => {
          const stranger = new WireClient(cluster.at(A), UNKNOWN)
          for (const answer of await Promise.all([
            ...[A, B, C].map((node) => stranger.on(cluster.at(node)).request('ping')),
            ...[A, B, C].map((node) => stranger.on(cluster.at(node)).delete()),
            ...[A, B, C].map((node) => initialize(cluster.at(node))),
          ])) {
            judge(answer, false)
            expect(answer.body.id === 'init' ? answer.sessionId : undefined).toBeUndefined()
          }
        }
        await Promise.all([stalled(), delay(5_000)])
        // Those nine are not all: sessions that are live are refused, too, when nobody can say whether they are still there.
        await until(() => counts.unavailable > 9, 'a call that is refused')
        expect(wrong).toEqual([])
        store.resume()
        const resumedAt = Date.now()

        // Every session on every node.
        const answers = clients.flatMap(({ sessionId }) =>
          [A, B, C].map((node) =>
            untilNot(503, () => new WireClient(cluster.at(node), sessionId).request('ping'), 10_000),
          ),
        )
        expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(36).fill(200))
        console.log(
          `${name}: all sessions served by all nodes ${Date.now() - resumedAt} ms after the stall; ${JSON.stringify(counts)}`,
        )
        isOver = true
        await load
        expect(wrong).toEqual([])
        const fresh = await untilNot(503, () => initialize(cluster.at(B)), 10_000)
        expect(fresh.status).toBe(200)

        expect(await within(call, 'the result of the long call', 30_000)).toBe(`${STEPS} steps`)
        expect(progress).toEqual(Array.from(progress, (_, index) => (progress[0] ?? 0) + index))
        expect(progress.at(-1)).toBe(STEPS)
        await real.call('log', { level: 'info', text: 'after' })
        await real.notifications.first(({ params }) => params?.data === 'after', 'a message on the stream')
        expect(real.wire.count('initialize')).toBe(1)
        expect(real.wire.answered.all.filter(({ status }) => status === 404)).toEqual([])
      })
    })
  }
})
