/** Real clients of both SDK lines, whose every request takes another way into a cluster. */
import { beforeAll, beforeEach, describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import type { WhoAmI } from '../fixtures/content.js'
import {
  type ClientHandlers,
  type ClientOptions,
  connectClient,
  type Elicited,
  type TestClient,
} from '../harness/client.js'
import type { Exchange, Route } from '../harness/recorded-fetch.js'
import { Recorder } from '../harness/recorder.js'
import { SDKS } from '../harness/server.js'
import { within } from '../harness/within.js'
import { A, B, C, type Cluster, describeBackends, startCluster } from './cluster.js'

const WATCHED = 'test://watched-resource'
const ROOTS = [{ uri: 'file:///project', name: 'project' }]

const HANDLERS: ClientHandlers = {
  sampling: (prompt) => `answer to ${prompt}`,
  elicitation: (message) => accepted(message),
  roots: () => ROOTS,
}

function accepted(username: string): Elicited {
  return { action: 'accept', content: { username, email: 'user@example.com' } }
}

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
let client: TestClient

/** Sends what follows to one node, but GETs. */
function turnTo(node: number): void {
  const before = client.wire.route
  client.wire.route = (exchange) => (exchange.method === 'GET' ? before?.(exchange) : node)
}

async function connect(sdk: 'v1' | 'v2', options: ClientOptions = {}): Promise<TestClient> {
  client = await connectClient(sdk, cluster.url, { handlers: HANDLERS, ...options })
  const connected = client
  onTestFinished(() => connected.close())
  return client
}

/** Has an instance of the session on each of the nodes. */
async function liveOn(...nodes: number[]): Promise<void> {
  const pids = new Set<number>()
  for (const node of nodes) {
    turnTo(node)
    pids.add((await whoami()).pid)
  }
  expect(pids.size).toBe(nodes.length)
}

async function whoami(): Promise<WhoAmI> {
  return JSON.parse(await client.call('whoami')) as WhoAmI
}

const isLog = (data: string) => (notification: { method: string; params?: Record<string, unknown> | undefined }) =>
  notification.method === 'notifications/message' && notification.params?.data === data

function logged(data: string, since = 0) {
  return client.notifications.first(isLog(data), `the log message ${data}`, { since })
}

function logsSince(since: number): unknown[] {
  return client.notifications.all
    .slice(since)
    .flatMap(({ method, params }) => (method === 'notifications/message' ? [params?.data] : []))
}

/** Whatever was sent on the standalone stream before is there when this resolves, if it was not lost. */
async function settled(node: number): Promise<void> {
  const text = `settled ${Math.random()}`
  turnTo(node)
  await client.call('log', { level: 'emergency', text })
  await logged(text)
}

function updated(uri: string, since = 0) {
  const isUpdate = ({ method, params }: { method: string; params?: Record<string, unknown> | undefined }) =>
    method === 'notifications/resources/updated' && params?.uri === uri
  return client.notifications.first(isUpdate, `an update of ${uri}`, { since })
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
async function answers(count: number): Promise<{ node: number | undefined; status: number | undefined }[]> {
  const isLast = () => client.wire.answered.all.filter(isAnswer).length >= count
  await client.wire.answered.first(isLast, `${count} answers of the client`)
  return client.wire.answered.all.filter(isAnswer).map(({ node, status }) => ({ node, status }))
}

function features(clientSdk: 'v1' | 'v2') {
  beforeEach(() => connect(clientSdk))

  test('calls tools, and every node knows who it is', async () => {
    await client.ping()
    expect(await client.tools()).toContain('echo')
    expect(await client.call('echo', { text: 'hello' })).toBe('hello')
    await expect(client.call('test_error_handling')).rejects.toThrow('intentionally')
    const pids = new Set<number>()
    for (let i = 0; i < 3; i++) {
      const { pid, ...answer } = await whoami()
      pids.add(pid)
      expect(answer).toMatchObject({
        client: { name: `client-${clientSdk}` },
        capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } },
        session: { id: client.sessionId(), clientInfo: { name: `client-${clientSdk}` } },
      })
      expect(await client.call('count')).toBe(String(i + 1))
      await client.ping()
      await client.ping()
    }
    // 4 requests a round and 3 nodes: another node each time
    expect(pids.size).toBe(3)
    expect(client.wire.count('initialize')).toBe(1)
    expect(client.wire.sessionIds).toEqual([client.sessionId()])
  })

  test('reads resources, gets prompts and completions', async () => {
    expect(await client.resources()).toContain('test://static-text')
    expect(await client.templates()).toEqual(['test://template/{id}/data'])
    expect(await client.read('test://static-text')).toBe('This is the content of the static text resource.')
    expect(await client.read('test://static-binary')).toMatch(/^iVBOR/)
    expect(await client.read('test://template/7/data')).toContain('Data for ID: 7')
    expect(await client.prompts()).toContain('test_simple_prompt')
    expect(await client.prompt('test_prompt_with_arguments', { arg1: 'a', arg2: 'b' })).toContain("arg2='b'")
    expect(await client.complete('test_prompt_with_arguments', 'arg1', 'par')).toEqual(['paris', 'park', 'party'])
  })

  test('gets the log messages of the level it set', async () => {
    await client.call('log', { level: 'info', text: 'before' })
    await logged('before')
    await client.setLevel('warning')
    const since = client.notifications.count
    for (let i = 0; i < 3; i++) await client.call('log', { level: 'info', text: 'quiet' })
    for (let i = 0; i < 3; i++) await client.call('log', { level: 'error', text: `loud ${i}` })
    for (let i = 0; i < 3; i++) await logged(`loud ${i}`, since)
    expect(logsSince(since)).toEqual(['loud 0', 'loud 1', 'loud 2'])
  })

  test('sees progress, in order', async () => {
    const seen: unknown[] = []
    expect(await client.call('slow', { steps: 5, ms: 5 }, { onprogress: (step) => seen.push(step.progress) })).toBe(
      '5 steps',
    )
    expect(seen).toEqual([1, 2, 3, 4, 5])
  })

  test('cancels a call: its handler is aborted', async () => {
    const cancel = new AbortController()
    const started = new Recorder<number>()
    const options = { signal: cancel.signal, onprogress: () => started.add(1) }
    const call = client.call('slow', { steps: 1_000, ms: 10 }, options)
    call.catch(() => {})
    await started.first(() => true, 'the first progress')
    cancel.abort()
    await expect(call).rejects.toThrow()
    await logged('slow aborted')
  })

  test('is asked for samples, user input and roots, on the call’s stream and on its own', async () => {
    for (const aside of [false, true]) {
      expect(await client.call('sample', { prompt: 'q', aside })).toBe('answer to q')
      expect(await client.call('ask', { message: 'm', aside })).toMatch(/^action=accept, content=.*"username":"m"/)
      expect(JSON.parse(await client.call('roots', { aside }))).toEqual(ROOTS)
    }
  })

  test('answers many questions of all nodes at once, each with its own answer', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `user ${index}`)
    const answers = await Promise.all(names.map((message, i) => client.call('ask', { message, aside: i % 2 === 0 })))
    expect(answers).toEqual(names.map((name) => expect.stringContaining(`"username":"${name}"`)))
  })

  test('tells of changed roots, and is told of changed lists', async () => {
    await client.rootsChanged()
    await logged('roots changed')
    for (const list of ['tools', 'resources', 'prompts']) {
      await client.call('announce', { list })
      await client.notifications.first(
        ({ method }) => method === `notifications/${list}/list_changed`,
        `changed ${list}`,
      )
    }
  })

  test('is told of updates of what it subscribed to, by whichever node', async () => {
    await client.subscribe(WATCHED)
    for (const node of cluster.nodes) {
      expect(await client.call('touch', { uri: WATCHED })).toBe('told')
      await updated(WATCHED)
      const since = client.notifications.count
      await node.notify('test://static-text')
      await node.notify(WATCHED)
      await updated(WATCHED, since)
    }
    await client.unsubscribe(WATCHED)
    const since = client.notifications.count
    for (const node of cluster.nodes) {
      expect(await client.call('touch', { uri: WATCHED })).toBe('not subscribed')
      await node.notify(WATCHED)
    }
    for (const node of [A, B, C]) await settled(node)
    expect(client.notifications.all.slice(since).filter(({ method }) => method.endsWith('updated'))).toEqual([])
  })
}

/** Each request goes to the one node that the test says. */
function exactWays(clientSdk: 'v1' | 'v2') {
  test.each([
    { aside: false, stream: 'of the call' },
    { aside: true, stream: 'of the session' },
  ])('a call on A asks on the stream $stream, is answered on B, while the GET is on C', async ({ aside }) => {
    await connect(clientSdk, { route: ways({ stream: C, answers: B, others: A }) })
    const { pid } = await whoami()
    expect(pid).toBe(cluster.node(A).pid)
    expect(await client.call('ask', { message: 'm', aside })).toContain('"username":"m"')
    expect(await client.call('sample', { prompt: 'q', aside })).toBe('answer to q')
    expect(JSON.parse(await client.call('roots', { aside }))).toEqual(ROOTS)
    expect(await answers(3)).toEqual(Array(3).fill({ node: B, status: 202 }))
    expect(client.wire.sent.all.filter(({ method }) => method === 'GET').map(({ node }) => node)).toEqual([C])
  })

  test.each([false, true])('two nodes that ask at the same time get their own answers (aside: %s)', async (aside) => {
    const { handlers, question, answer } = elicitations()
    await connect(clientSdk, { handlers, route: ways({ stream: C, answers: C, others: A }) })
    await liveOn(A, B)
    const names = ['a0', 'b0', 'a1', 'b1']
    const calls = names.map((message) => {
      turnTo(message.startsWith('a') ? A : B)
      return client.call('ask', { message, aside })
    })
    for (const name of names) await question(name)
    turnTo(C)
    // The last one that was asked is answered first.
    for (const name of names.toReversed()) answer(name)
    expect(await Promise.all(calls)).toEqual(names.map((name) => expect.stringContaining(`"username":"${name}"`)))
    const ids = client.wire.sent.all.filter(isAnswer).map(({ body }) => (body as { id: unknown }).id)
    expect(ids).toHaveLength(4)
    expect(new Set(ids).size).toBe(4)
  })

  test('cancelling on B ends a call that runs on A', async () => {
    await connect(clientSdk, { route: ways({ stream: C, answers: C, others: A }) })
    const cancel = new AbortController()
    const name = `cancelled ${client.sessionId()}`
    const call = client.call('hold', { name }, { signal: cancel.signal })
    call.catch(() => {})
    await cluster.node(A).lines.first((line) => line === `holding ${name}`, 'the call on A')
    turnTo(B)
    cancel.abort()
    await expect(call).rejects.toThrow()
    await cluster.node(A).lines.first((line) => line === `aborted ${name}`, 'the end of the call on A')
    const cancelled = await client.wire.answered.first(
      ({ rpc }) => rpc.includes('notifications/cancelled'),
      'the answer to the cancellation',
    )
    expect(cancelled).toMatchObject({ node: B, status: 202 })
    expect(await client.call('echo', { text: 'on' })).toBe('on')
  })

  test('progress of a server’s request, told on B, arrives on A; progress of a call arrives on a stream that is followed on B', async () => {
    const handlers: ClientHandlers = {
      sampling: async (prompt, report) => {
        for (const step of [1, 2, 3]) await report(step)
        return `answer to ${prompt}`
      },
    }
    await connect(clientSdk, {
      handlers,
      route: (exchange) => {
        if (isAnswer(exchange) || exchange.rpc.includes('notifications/progress') || isResumption(exchange)) return B
        return exchange.method === 'GET' ? C : A
      },
    })
    expect(JSON.parse(await client.call('sample_slowly', { prompt: 'q' }))).toEqual({
      text: 'answer to q',
      progress: [1, 2, 3],
    })
    const told = client.wire.answered.all.filter(({ rpc }) => rpc.includes('notifications/progress'))
    expect(told.map(({ node, status }) => [node, status])).toEqual(Array(3).fill([B, 202]))

    const seen = new Recorder<number>()
    const call = client.call('slow', { steps: 40, ms: 10 }, { onprogress: ({ progress }) => seen.add(progress) })
    await seen.first((progress) => progress === 3, 'progress')
    expect(cluster.proxy.cut(({ method }) => method === 'POST')).toBe(1)
    expect(await call).toBe('40 steps')
    expect(seen.all).toEqual(Array.from({ length: 40 }, (_, index) => index + 1))
    const resumed = client.wire.answered.all.find(isResumption)
    expect(resumed).toMatchObject({ node: B, status: 200 })
    expect(client.wire.sent.all.filter(isCall)).toHaveLength(2)
  })

  test('what A, B and C send at the same time comes on the one stream at B, each message once', async () => {
    await connect(clientSdk, { route: ways({ stream: B, answers: B, others: A }) })
    await liveOn(A, B, C)
    const since = client.notifications.count
    const names = Array.from({ length: 30 }, (_, index) => `message ${index}`)
    await Promise.all(
      names.map((text, index) => {
        turnTo(index % 3)
        return client.call('log', { level: 'info', text })
      }),
    )
    for (const name of names) await logged(name, since)
    for (const node of [A, B, C]) await settled(node)
    const logs = logsSince(since).filter((log) => !String(log).startsWith('settled'))
    expect(logs.toSorted()).toEqual(names.toSorted())
  })

  test('a changed list is told from C, on the stream that is on A, once', async () => {
    await connect(clientSdk, { route: ways({ stream: A, answers: B, others: B }) })
    turnTo(C)
    for (const list of ['tools', 'resources', 'prompts']) {
      const since = client.notifications.count
      const isChange = ({ method }: { method: string }) => method === `notifications/${list}/list_changed`
      await client.call('announce', { list })
      await client.notifications.first(isChange, `changed ${list}`, { since })
      await settled(C)
      expect(client.notifications.all.slice(since).filter(isChange)).toHaveLength(1)
    }
  })

  test('a log level and subscriptions set on A are in force on B and C at once', async () => {
    await connect(clientSdk, { route: ways({ stream: C, answers: A, others: A }) })
    await liveOn(A, B, C)
    turnTo(A)
    await client.setLevel('error')
    await client.subscribe(WATCHED)
    const since = client.notifications.count
    for (const node of [B, C]) {
      turnTo(node)
      await client.call('log', { level: 'warning', text: 'quiet' })
      await client.call('log', { level: 'error', text: `loud ${node}` })
      await logged(`loud ${node}`, since)
      expect(await client.call('touch', { uri: WATCHED })).toBe('told')
    }
    expect(logsSince(since)).toEqual([`loud ${B}`, `loud ${C}`])
    turnTo(C)
    await client.unsubscribe(WATCHED)
    for (const node of [A, B]) {
      turnTo(node)
      expect(await client.call('touch', { uri: WATCHED })).toBe('not subscribed')
    }
  })

  test('changed roots are told to every live instance, once', async () => {
    await connect(clientSdk, { route: ways({ stream: C, answers: A, others: A }) })
    await liveOn(A, B, C)
    turnTo(B)
    await client.rootsChanged()
    const isTold = isLog('roots changed')
    for (let count = 1, seen = 0; count <= 3; count++) {
      await client.notifications.first(isTold, `instance ${count} that was told`, { since: seen })
      seen = client.notifications.all.findIndex((notification, index) => index >= seen && isTold(notification)) + 1
    }
    for (const node of [A, B, C]) await settled(node)
    expect(client.notifications.all.filter(isTold)).toHaveLength(3)
  })

  test('DELETE on A aborts a call that runs on B, and no node serves the session any more', async () => {
    await connect(clientSdk, { route: ways({ stream: C, answers: A, others: A }) })
    const name = `deleted ${client.sessionId()}`
    turnTo(B)
    client.call('hold', { name }).catch(() => {})
    await cluster.node(B).lines.first((line) => line === `holding ${name}`, 'the call on B')
    const sessionId = String(client.sessionId())
    turnTo(A)
    await client.terminate()
    await cluster.node(B).lines.first((line) => line === `aborted ${name}`, 'the end of the call on B')
    for (const node of cluster.nodes) {
      const response = await fetch(node.url, { method: 'DELETE', headers: { 'mcp-session-id': sessionId } })
      expect(response.status).toBe(404)
    }
  })
}

/** The heart of it, for backends that differ from others only in their own contracts. */
function shortList(clientSdk: 'v1' | 'v2') {
  test('every feature in one session, each request on another node', async () => {
    await connect(clientSdk)
    expect(await client.tools()).toContain('echo')
    expect(await client.resources()).toContain('test://static-text')
    expect(await client.prompts()).toContain('test_simple_prompt')
    for (const aside of [false, true]) {
      expect(await client.call('sample', { prompt: 'q', aside })).toBe('answer to q')
      expect(await client.call('ask', { message: 'm', aside })).toContain('"username":"m"')
      expect(JSON.parse(await client.call('roots', { aside }))).toEqual(ROOTS)
    }
    const seen: number[] = []
    expect(await client.call('slow', { steps: 5, ms: 5 }, { onprogress: ({ progress }) => seen.push(progress) })).toBe(
      '5 steps',
    )
    expect(seen).toEqual([1, 2, 3, 4, 5])
    for (let count = 1; count <= 4; count++) expect(await client.call('count')).toBe(String(count))

    await client.setLevel('error')
    await client.subscribe(WATCHED)
    const since = client.notifications.count
    for (let i = 0; i < 3; i++) {
      await client.call('log', { level: 'warning', text: 'quiet' })
      expect(await client.call('touch', { uri: WATCHED })).toBe('told')
    }
    await client.call('announce', { list: 'tools' })
    await client.rootsChanged()
    for (const node of [A, B, C]) await settled(node)
    const methods = client.notifications.all.slice(since).map(({ method }) => method)
    expect(methods.filter((method) => method === 'notifications/resources/updated')).toHaveLength(3)
    expect(methods).toContain('notifications/tools/list_changed')
    expect(logsSince(since)).not.toContain('quiet')
    expect(logsSince(since)).toContain('roots changed')

    await within(client.terminate(), 'the answer to DELETE')
    expect(client.wire.count('initialize')).toBe(1)
  })
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
      if (isFull) describe('behind a proxy without affinity', () => features(clientSdk))
      else shortList(clientSdk)
      describe('by exact ways', () => exactWays(clientSdk))
    })
  })
})
