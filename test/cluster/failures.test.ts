/** What clients see when nodes die, stores stall and messages get lost. */
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import pg from 'pg'
import { beforeAll, beforeEach, describe, expect, onTestFailed, type TestContext, test } from 'vitest'
import { connectClient, type Elicited } from '../harness/client.js'
import { within } from '../harness/within.js'
import { launchPostgres } from '../services/postgres.js'
import { launchRedis } from '../services/redis.js'
import { describeWith, postgresProgram, redisProgram } from '../services/use.js'
import { type Answer, EventStream, initialize, type SseEvent, WireClient } from '../session/wire-client.js'
import {
  A,
  B,
  BACKENDS,
  type BackendKind,
  C,
  type Cluster,
  type ClusterOptions,
  describeBackends,
  startCluster,
} from './cluster.js'

const ACCEPTED: Elicited = { action: 'accept', content: { username: 'u', email: 'u@example.com' } }
const UNKNOWN = '00000000-0000-4000-8000-000000000000'

/** Heartbeat's time to live, and a bit: after this a silent node is taken for dead. */
const DEATH = 8_000
/** How long a node may go on with a session of which it was not told that it is over. */
const STALENESS = 9_000

let count = 0

function toolCall(name: string, args: object) {
  const id = `call-${count++}`
  return {
    jsonrpc: '2.0' as const,
    id,
    method: 'tools/call',
    params: { name, arguments: args, _meta: { progressToken: id } },
  }
}

/** A call that is answered by a stream; resolves when that is open. */
async function stream(
  client: WireClient,
  node: Pick<Cluster, 'at'>,
  index: number,
  name: string,
  args: object,
): Promise<EventStream> {
  const response = client.on(node.at(index)).send('POST', toolCall(name, args))
  const opened = new EventStream(await within(response, `a stream for ${name}`))
  expect(opened.status).toBe(200)
  return opened
}

const next = (events: EventStream) => within(events.next(), 'the next event')
const rest = (events: EventStream, ms?: number) => within(events.rest(), 'the end of a stream', ms)

/** The next event that is what the test looks for. */
async function find(
  events: EventStream,
  matches: (event: SseEvent) => boolean,
  what: string,
  ms?: number,
): Promise<SseEvent> {
  const search = async () => {
    for (let event = await events.next(); event; event = await events.next()) if (matches(event)) return event
    throw new Error(`the stream ended before ${what}`)
  }
  return within(search(), what, ms)
}

const isLog = (text: string) => (event: SseEvent) => event.message.params?.data === text

async function echo(client: WireClient, cluster: Cluster, index: number): Promise<Answer> {
  return within(client.on(cluster.at(index)).post(toolCall('echo', { text: 'e' })), 'an answer to echo')
}

async function statuses(client: WireClient, cluster: Cluster): Promise<number[]> {
  const found: number[] = []
  for (const node of [A, B, C]) {
    client.on(cluster.at(node))
    found.push((await echo(client, cluster, node)).status)
    const stream = await within(client.get(), 'an answer to GET')
    await stream.cancel()
    found.push(stream.status)
    if (stream.status !== 200) found.push((await within(client.delete(), 'an answer to DELETE')).status)
  }
  return found
}

const GONE = Array(9).fill(404)

/** Asks until there is another answer than `status`; all there ever was. */
async function until(status: number, ask: () => Promise<Answer>, ms: number): Promise<Answer> {
  const deadline = Date.now() + ms
  for (;;) {
    const answer = await within(ask(), 'an answer', ms)
    if (answer.status !== status) return answer
    expect(Date.now(), `still ${status} after ${ms} ms`).toBeLessThan(deadline)
    await delay(100)
  }
}

const isElicitation = (event: SseEvent) => event.message.method === 'elicitation/create'
const WITH_ELICITATION = { capabilities: { elicitation: {} } }

describeBackends((backend, name) => {
  let cluster: Cluster

  beforeAll(async () => {
    cluster = await startCluster({ sdk: name === 'SQLite' || name === 'PostgreSQL' ? 'v1' : 'v2', backend })
    return () => cluster.stop()
  })

  beforeEach(() => {
    onTestFailed(() => console.error(cluster.log))
  })

  test('404 is what the store says, and nothing else', async () => {
    const alice = await cluster.open({ headers: { authorization: 'Bearer alice' } })
    // Live on A alone: another node answers 404 to whoever is not Alice, and serves Alice.
    const mallory = { headers: { authorization: 'Bearer mallory' } }
    for (const node of [A, B]) {
      const answer = await alice.on(cluster.at(node)).post(toolCall('echo', { text: 'e' }), mallory)
      expect(answer).toMatchObject({ status: 404, body: { error: { code: -32001 } } })
    }
    expect((await echo(alice, cluster, C)).status).toBe(200)
    expect(await cluster.node(B).status()).toMatchObject({ liveSessions: 0 })
    expect((await echo(alice, cluster, B)).status).toBe(200)
    await cluster.node(C).restart()
    expect((await echo(alice, cluster, C)).status).toBe(200)
    expect(await statuses(new WireClient(cluster.at(A), UNKNOWN), cluster)).toEqual(GONE)
    expect((await alice.on(cluster.at(B)).delete()).status).toBe(200)
    expect(await statuses(alice, cluster)).toEqual(GONE)
  })

  test('nodes that restore a session at the same time each do it once', async () => {
    const client = await cluster.open()
    const before = await Promise.all(cluster.nodes.map((node) => node.stats()))
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) => echo(client, cluster, index % 2 ? B : C)),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(12).fill(200))
    const after = await Promise.all(cluster.nodes.map((node) => node.stats()))
    expect(after.map(({ restored }, node) => restored - (before[node]?.restored ?? 0))).toEqual([0, 1, 1])
  })

  test('two nodes that delete a session at the same time: one has done it, and it is gone', async () => {
    const client = await cluster.open()
    await echo(client, cluster, B)
    const answers = await Promise.all(
      [A, B].map((node) => within(client.on(cluster.at(node)).delete(), 'an answer to DELETE')),
    )
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 404])
    expect(await statuses(client, cluster)).toEqual(GONE)
  })

  test('DELETE on A while B runs a call and C holds the stream: the call is aborted, the streams end without a response', async () => {
    const client = await cluster.open()
    const standalone = await client.on(cluster.at(C)).get()
    const call = await stream(client, cluster, B, 'hold', { name: client.sessionId })
    const { lines } = cluster.node(B)
    await lines.first((line) => line === `holding ${client.sessionId}`, 'the call on B')
    expect((await within(client.on(cluster.at(A)).delete(), 'an answer to DELETE')).status).toBe(200)
    await lines.first((line) => line === `aborted ${client.sessionId}`, 'the end of the call on B', { ms: 1_000 })
    expect(await rest(call)).toEqual([])
    expect(await rest(standalone)).toEqual([])
    expect(await statuses(client, cluster)).toEqual(GONE)
    for (const node of [A, B, C]) {
      expect((await client.on(cluster.at(node)).get(call.lastEventId)).status).toBe(404)
    }
  })

  test('the newest GET wins, whichever node it is on: the older one ends, and what comes goes to the newer one', async () => {
    const client = await cluster.open()
    let current = await client.on(cluster.at(A)).get()
    for (const [turn, node] of [B, C, C, A].entries()) {
      const newer = await within(client.on(cluster.at(node)).get(), 'a newer stream')
      expect(await rest(current)).toEqual([])
      current = newer
      const text = `turn ${turn}`
      await client.on(cluster.at(turn % 3)).post(toolCall('log', { level: 'info', text }))
      await find(current, isLog(text), text)
    }
    await current.cancel()
  })

  test('DELETE on A while B restores: what waits there gets 404, and nothing is left', async () => {
    const client = await cluster.open()
    const held = cluster.node(B)
    await held.holdRestores(true)
    try {
      const since = held.lines.count
      const waiting = [echo(client, cluster, B), echo(client, cluster, B)]
      await held.lines.first((line) => line === 'restore held', 'a restore on B', { since })
      expect((await within(client.on(cluster.at(A)).delete(), 'an answer to DELETE')).status).toBe(200)
      await held.holdRestores(false)
      expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([404, 404])
      expect(await statuses(client, cluster)).toEqual(GONE)
    } finally {
      await held.holdRestores(false)
    }
  })
})

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

    test('while every message between nodes is lost, nothing is, and DELETE is final within seconds', {
      timeout: 40_000,
    }, async () => {
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
        expect(
          (await within(levelled.on(cluster.at(A)).request('logging/setLevel', { level: 'error' }), 'the level'))
            .status,
        ).toBe(200)
        // B asks the store before it is too old; until then it may not know.
        const deadline = Date.now() + STALENESS
        for (let i = 0; ; i++) {
          await levelled.on(cluster.at(B)).post(toolCall('log', { level: 'info', text: 'quiet' }))
          await levelled.on(cluster.at(B)).post(toolCall('log', { level: 'error', text: `loud ${i}` }))
          if (isLog(`loud ${i}`)(await next(standalone).then((event) => event as SseEvent))) break
          await find(standalone, isLog(`loud ${i}`), 'a loud message')
          expect(Date.now(), 'the level is still not in force').toBeLessThan(deadline)
          await delay(200)
        }
        await standalone.cancel()
      }
      const deletesFromAfar = async () => {
        expect((await within(deleted.on(cluster.at(A)).delete(), 'an answer to DELETE')).status).toBe(200)
        expect((await echo(deleted, cluster, A)).status).toBe(404)
        await Promise.all([
          until(200, () => echo(deleted, cluster, B), STALENESS).then(({ status }) => expect(status).toBe(404)),
          until(200, () => echo(deleted, cluster, C), STALENESS).then(({ status }) => expect(status).toBe(404)),
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

    test('while every message between nodes is lost, a connection that was replaced elsewhere finds out by itself, and passes nothing on', {
      timeout: 40_000,
    }, async () => {
      onTestFailed(() => console.error(cluster.log))
      const client = await cluster.open()
      for (const node of [B, C]) await echo(client, cluster, node)
      await cluster.each((node) => node.loseMessages(true))
      const older = await client.on(cluster.at(A)).get()
      const newer = await client.on(cluster.at(B)).get()
      const seen: SseEvent[] = []
      const end = (async () => {
        for await (const event of older) seen.push(event)
      })()
      end.catch(() => {})
      await client.on(cluster.at(C)).post(toolCall('log', { level: 'info', text: 'once' }))
      await find(newer, isLog('once'), 'the message on the newer stream')
      // Nobody told it that it is not the one any more: it finds out.
      await within(end, `the end of the older stream, which has got ${JSON.stringify(seen)}`, STALENESS).finally(() =>
        expect(seen, 'on the older stream').toEqual([]),
      )
      await newer.cancel()
    })
  },
  ['SQLite', 'Redis', 'PostgreSQL'],
)

/** A cluster for one test, which may hurt it. */
async function ownCluster({ onTestFinished, onTestFailed }: TestContext, options: ClusterOptions): Promise<Cluster> {
  const cluster = await startCluster(options)
  onTestFinished(() => cluster.stop())
  onTestFailed(() => console.error(cluster.log))
  return cluster
}

/** Those of the backends that can be had here. */
function on(...names: BackendKind['name'][]): { name: BackendKind['name']; backend: string }[] {
  return BACKENDS.flatMap(({ name, service }) =>
    service && names.includes(name) ? [{ name, backend: service.url }] : [],
  )
}

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
      const begun = (await next(repeatable)) as SseEvent
      // Another way to the session, so that B is not asked to restore it only now.
      expect((await echo(client, cluster, B)).status).toBe(200)
      await cluster.node(A).kill()

      const respond = () => within(client.on(cluster.at(B)).respond(question.message.id, { ...ACCEPTED }), 'an answer')
      // Nodes on one machine see at once that a process is gone; others, when its time to live is over.
      if (name !== 'SQLite') {
        expect(await respond()).toMatchObject({ status: 503, retryAfter: '1', body: { error: { code: -32603 } } })
      }
      // Nobody waits for it any more: it cannot be delivered at all.
      expect(await until(503, respond, DEATH)).toMatchObject({ status: 400, body: { error: { code: -32000 } } })

      await Promise.all([rest(asking).catch(() => []), rest(holding).catch(() => [])])
      for (const { lastEventId } of [asking, holding]) {
        const resumed = await client.on(cluster.at(C)).get(lastEventId)
        const events = await rest(resumed, DEATH)
        expect(events.map(({ message }) => message)).toEqual([
          expect.objectContaining({ error: expect.objectContaining({ data: { reason: 'outcome-unknown' } }) }),
        ])
      }
      const seen = [begun, ...(await rest(repeatable).catch(() => []))]
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
      await standalone.cancel()
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
      const respond = () => within(client.on(cluster.at(B)).respond(question.message.id, { ...ACCEPTED }), 'an answer')
      cluster.node(A).pause()
      expect(await respond()).toMatchObject({ status: 503, retryAfter: '1' })
      cluster.node(A).resume()
      // Delivered by this one; or by the one before, whose delivery was not known of: then nothing waits for it any more.
      expect([202, 400]).toContain((await until(503, respond, DEATH)).status)
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
      const first = (await next(call)) as SseEvent
      const resumed = await kept.on(cluster.at(B)).get(first.id)
      const seen: SseEvent[] = [(await next(resumed)) as SseEvent]

      cluster.node(A).pause()
      const deletion = within(deleted.on(cluster.at(B)).delete(), 'an answer to DELETE')
      seen.push(...(await rest(resumed, DEATH + 4_000)))
      expect(seen.at(-1)?.message).toMatchObject({ error: { data: { reason: 'outcome-unknown' } } })
      expect((await deletion).status).toBe(200)
      expect((await echo(deleted, cluster, B)).status).toBe(404)
      cluster.node(A).resume()

      // It may find its connection to the store broken, and cannot know then; it never serves.
      expect((await until(503, () => echo(deleted, cluster, A), DEATH)).status).toBe(404)
      await rest(deletedStream)
      // Its handler is told that nobody hears it.
      await find(log, isLog('slow aborted'), 'the end of the handler on A')
      const replay = await kept.on(cluster.at(C)).get(first.id)
      expect(await rest(replay)).toEqual(seen)
      const progress = seen.slice(0, -1).map(({ message }) => message.params.progress)
      expect(progress).toEqual(Array.from(progress, (_, index) => index + 2))
      expect((await echo(kept, cluster, A)).status).toBe(200)
      await log.cancel()
    },
  )
})

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
      const { rowCount } = await admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen %'`,
      )
      await admin.end()
      return rowCount ?? 0
    },
    program: await postgresProgram(),
  },
]

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
        const cluster = await ownCluster(context, { sdk: 'v1', backend: store.url, options: { backendTimeout: 1_500 } })
        const clients = await Promise.all(Array.from({ length: 12 }, () => cluster.open()))
        // One of a real kind, with a stream and a call that last.
        const real = await connectClient('v1', cluster.url)
        context.onTestFinished(() => real.close())
        const progress: number[] = []
        const call = real.call(
          'slow_again',
          { steps: 70, ms: 100 },
          { onprogress: (step) => progress.push(step.progress) },
        )
        call.catch(() => {})

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
            judge(
              await within(client.on(cluster.at(turn % 3)).post(toolCall('echo', { text: 'e' })), 'an answer', 20_000),
            )
            await delay(5)
          }
        }
        const load = Promise.all(clients.map((client, index) => use(client, index)))
        load.catch(() => {})
        await delay(500)
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
        expect(wrong).toEqual([])
        expect(counts.unavailable).toBeGreaterThan(9)
        store.resume()
        const resumedAt = Date.now()

        // Every session on every node.
        const answers = clients.flatMap(({ sessionId }) =>
          [A, B, C].map((node) =>
            until(503, () => new WireClient(cluster.at(node), sessionId).request('ping'), 10_000),
          ),
        )
        expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(36).fill(200))
        console.log(
          `${name}: all sessions served by all nodes ${Date.now() - resumedAt} ms after the stall; ${JSON.stringify(counts)}`,
        )
        isOver = true
        await load
        expect(wrong).toEqual([])
        const fresh = await until(503, () => initialize(cluster.at(B)), 10_000)
        expect(fresh.status).toBe(200)

        expect(await within(call, 'the result of the long call', 30_000)).toBe('70 steps')
        expect(progress).toEqual(Array.from(progress, (_, index) => (progress[0] ?? 0) + index))
        expect(progress.at(-1)).toBe(70)
        await real.call('log', { level: 'info', text: 'after' })
        await real.notifications.first(({ params }) => params?.data === 'after', 'a message on the stream')
        expect(real.wire.count('initialize')).toBe(1)
        expect(real.wire.answered.all.filter(({ status }) => status === 404)).toEqual([])
      })
    })
  }
})
