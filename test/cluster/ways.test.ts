/** Real clients of both SDK lines, whose requests go by exact ways: each to the one node of a cluster that the test says. */
import { beforeAll, beforeEach, describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import { type ClientHandlers, type ClientOptions, connectClient, type Elicited } from '../harness/client.js'
import { accepted, expectAnswers, HANDLERS, WATCHED } from '../harness/features.js'
import { later } from '../harness/later.js'
import type { Exchange, Route } from '../harness/recorded-fetch.js'
import { Recorder } from '../harness/recorder.js'
import { isLog, Scene } from '../harness/scene.js'
import { SDKS, type Sdk } from '../harness/server.js'
import { WireClient } from '../harness/wire-client.js'
import { A, B, C, type Cluster, describeBackends, startCluster } from './cluster.js'

const isAnswer = ({ method, rpc }: Exchange) => method === 'POST' && rpc.length === 0
const isResumption = ({ lastEventId }: Exchange) => lastEventId !== undefined
const isCall = ({ rpc }: Exchange) => rpc.includes('tools/call')

/** Everything to the node, but GETs of the standalone stream and what a client answers. */
const ways = (ways: { stream: number; answers: number; others: number }): Route => {
  return (exchange) => {
    if (exchange.method === 'GET') return ways.stream
    return isAnswer(exchange) ? ways.answers : ways.others
  }
}

let cluster: Cluster

async function connect(sdk: Sdk, options: ClientOptions = {}): Promise<Scene> {
  const client = await connectClient(sdk, cluster.url, { handlers: HANDLERS, ...options })
  onTestFinished(() => client.close())
  return new Scene(client, cluster.nodes)
}

/** A handler whose answers the test gives when it likes. */
function elicitations() {
  const asked = new Recorder<string>()
  const answers = new Map<string, (answer: Elicited) => void>()
  const elicitation = (message: string) =>
    new Promise<Elicited>((resolve) => {
      answers.set(message, resolve)
      asked.add(message)
    })
  return {
    handlers: { ...HANDLERS, elicitation },
    /** Resolves when the question is there. */
    question: (message: string) => asked.first((text) => text === message, `the question ${message}`),
    answer: (message: string) => answers.get(message)?.(accepted(message)),
  }
}

/** Where the client's answers went, and how they were received, once there are so many. */
async function answers(
  { client }: Scene,
  count: number,
): Promise<{ node: number | undefined; status: number | undefined }[]> {
  const isLast = () => client.wire.answered.all.filter(isAnswer).length >= count
  await client.wire.answered.first(isLast, `${count} answers of the client`)
  return client.wire.answered.all.filter(isAnswer).map(({ node, status }) => ({ node, status }))
}

describeBackends((backend, name) => {
  const isFull = name === 'SQLite' || name === 'Redis'

  describe.each(SDKS)('a server of %s', (serverSdk) => {
    beforeAll(async () => {
      const started = await startCluster({ sdk: serverSdk, backend })
      cluster = started
      return () => started.stop()
    })

    beforeEach(() => {
      onTestFailed(() => console.error(cluster.log))
    })

    // Which lines meet is of no concern to a backend.
    describe.each(isFull ? SDKS : [serverSdk])('a client of %s', (clientSdk) => {
      test.each([
        { aside: false, stream: 'of the call' },
        { aside: true, stream: 'of the session' },
      ])('what a call on A asks on the stream $stream is answered on B, while the GET is on C', async ({ aside }) => {
        const scene = await connect(clientSdk, { route: ways({ stream: C, answers: B, others: A }) })
        const { pid } = await scene.whoami()
        expect(pid).toBe(cluster.node(A).pid)
        await expectAnswers(scene, aside)
        expect(await answers(scene, 3)).toEqual(Array(3).fill({ node: B, status: 202 }))
        expect(scene.client.wire.sent.all.filter(({ method }) => method === 'GET').map(({ node }) => node)).toEqual([C])
      })

      test.each([false, true])(
        'two nodes that ask at the same time get their own answers (on the session’s stream: %s)',
        async (aside) => {
          const { handlers, question, answer } = elicitations()
          const scene = await connect(clientSdk, { handlers, route: ways({ stream: C, answers: C, others: A }) })
          await scene.liveOn(A, B)
          const names = ['a0', 'b0', 'a1', 'b1']
          const calls = names.map((message) => {
            scene.turnTo(message.startsWith('a') ? A : B)
            return later(scene.client.call('ask', { message, aside }))
          })
          for (const name of names) await question(name)
          scene.turnTo(C)
          // The last one that was asked is answered first.
          for (const name of names.toReversed()) answer(name)
          expect(await Promise.all(calls)).toEqual(names.map((name) => expect.stringContaining(`"username":"${name}"`)))
          const ids = scene.client.wire.sent.all.filter(isAnswer).map(({ body }) => (body as { id: unknown }).id)
          expect(ids).toHaveLength(4)
          expect(new Set(ids).size).toBe(4)
        },
      )

      test('cancelling on B ends a call that runs on A', async () => {
        const scene = await connect(clientSdk, { route: ways({ stream: C, answers: C, others: A }) })
        const cancel = new AbortController()
        const name = `cancelled ${scene.client.sessionId()}`
        const call = later(scene.client.call('hold', { name }, { signal: cancel.signal }))
        await cluster.node(A).lines.first((line) => line === `holding ${name}`, 'the call on A')
        scene.turnTo(B)
        cancel.abort()
        await expect(call).rejects.toThrow()
        await cluster.node(A).lines.first((line) => line === `aborted ${name}`, 'the end of the call on A')
        const cancelled = await scene.client.wire.answered.first(
          ({ rpc }) => rpc.includes('notifications/cancelled'),
          'the answer to the cancellation',
        )
        expect(cancelled).toMatchObject({ node: B, status: 202 })
        expect(await scene.client.call('echo', { text: 'on' })).toBe('on')
      })

      test('progress of a server’s request, told on B, arrives on A; progress of a call arrives on a stream that is followed on B', async () => {
        const handlers: ClientHandlers = {
          sampling: async (prompt, report) => {
            for (const step of [1, 2, 3]) await report(step)
            return `answer to ${prompt}`
          },
        }
        const scene = await connect(clientSdk, {
          handlers,
          route: (exchange) => {
            if (isAnswer(exchange) || exchange.rpc.includes('notifications/progress') || isResumption(exchange))
              return B
            return exchange.method === 'GET' ? C : A
          },
        })
        expect(JSON.parse(await scene.client.call('sample_slowly', { prompt: 'q' }))).toEqual({
          text: 'answer to q',
          progress: [1, 2, 3],
        })
        const told = scene.client.wire.answered.all.filter(({ rpc }) => rpc.includes('notifications/progress'))
        expect(told.map(({ node, status }) => [node, status])).toEqual(Array(3).fill([B, 202]))

        const seen = new Recorder<number>()
        const onprogress = ({ progress }: { progress: number }) => seen.add(progress)
        const call = later(scene.client.call('slow', { steps: 40, ms: 10 }, { onprogress }))
        await seen.first((progress) => progress === 3, 'progress')
        expect(cluster.proxy.cut(({ method, isStream }) => method === 'POST' && isStream)).toBe(1)
        expect(await call).toBe('40 steps')
        expect(seen.all).toEqual(Array.from({ length: 40 }, (_, index) => index + 1))
        const resumed = scene.client.wire.answered.all.find(isResumption)
        expect(resumed).toMatchObject({ node: B, status: 200 })
        expect(scene.client.wire.sent.all.filter(isCall)).toHaveLength(2)
      })

      test('what A, B and C send at the same time comes on the one stream at B, each message once', async () => {
        const scene = await connect(clientSdk, { route: ways({ stream: B, answers: B, others: A }) })
        await scene.liveOn(A, B, C)
        const since = scene.now
        const names = Array.from({ length: 30 }, (_, index) => `message ${index}`)
        await Promise.all(
          names.map((text, index) => {
            scene.turnTo(index % 3)
            return scene.client.call('log', { level: 'info', text })
          }),
        )
        for (const name of names) await scene.logged(name, since)
        await scene.settled()
        const logs = scene.logs(since).filter((log) => !String(log).startsWith('settled'))
        expect(logs.toSorted()).toEqual(names.toSorted())
      })

      test('a changed list is told from C, on the stream that is on A, once', async () => {
        const scene = await connect(clientSdk, { route: ways({ stream: A, answers: B, others: B }) })
        scene.turnTo(C)
        for (const list of ['tools', 'resources', 'prompts']) {
          const since = scene.now
          const isChange = ({ method }: { method: string }) => method === `notifications/${list}/list_changed`
          await scene.client.call('announce', { list })
          await scene.notified(isChange, `changed ${list}`, since)
          await scene.settled(C)
          expect(scene.since(since).filter(isChange)).toHaveLength(1)
        }
      })

      test('a log level and subscriptions set on A are in force on B and C at once', async () => {
        const scene = await connect(clientSdk, { route: ways({ stream: C, answers: A, others: A }) })
        await scene.liveOn(A, B, C)
        scene.turnTo(A)
        await scene.client.setLevel('error')
        await scene.client.subscribe(WATCHED)
        const since = scene.now
        for (const node of [B, C]) {
          scene.turnTo(node)
          await scene.client.call('log', { level: 'warning', text: 'quiet' })
          await scene.client.call('log', { level: 'error', text: `loud ${node}` })
          await scene.logged(`loud ${node}`, since)
          expect(await scene.client.call('touch', { uri: WATCHED })).toBe('told')
        }
        expect(scene.logs(since)).toEqual([`loud ${B}`, `loud ${C}`])
        scene.turnTo(C)
        await scene.client.unsubscribe(WATCHED)
        for (const node of [A, B]) {
          scene.turnTo(node)
          expect(await scene.client.call('touch', { uri: WATCHED })).toBe('not subscribed')
        }
      })

      test('changed roots are told to every live instance, once', async () => {
        const scene = await connect(clientSdk, { route: ways({ stream: C, answers: A, others: A }) })
        await scene.liveOn(A, B, C)
        scene.turnTo(B)
        await scene.client.rootsChanged()
        const isTold = isLog('roots changed')
        for (let count = 1, seen = 0; count <= 3; count++) {
          await scene.notified(isTold, `instance ${count} that was told`, seen)
          seen =
            scene.client.notifications.all.findIndex((notification, index) => index >= seen && isTold(notification)) + 1
        }
        await scene.settled()
        expect(scene.client.notifications.all.filter(isTold)).toHaveLength(3)
      })

      test('DELETE on A aborts a call that runs on B, and no node serves the session any more', async () => {
        const scene = await connect(clientSdk, { route: ways({ stream: C, answers: A, others: A }) })
        const name = `deleted ${scene.client.sessionId()}`
        scene.turnTo(B)
        void later(scene.client.call('hold', { name }))
        await cluster.node(B).lines.first((line) => line === `holding ${name}`, 'the call on B')
        const sessionId = String(scene.client.sessionId())
        scene.turnTo(A)
        await scene.client.terminate()
        await cluster.node(B).lines.first((line) => line === `aborted ${name}`, 'the end of the call on B')
        for (const node of [A, B, C]) {
          expect((await new WireClient(cluster.at(node), sessionId).delete()).status).toBe(404)
        }
      })
    })
  })
})
