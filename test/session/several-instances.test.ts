/** Two nodes that have the same session live: what one is told takes effect on the other. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { gated } from '../harness/gated-backend.js'
import { handshake, type ScriptedFactory, scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'
import { initialize, openSession, WireClient } from '../harness/wire-client.js'

/** A session that is live on A and B. */
async function pair() {
  const shared = memory()
  const make = () => {
    const factory = scripted()
    const backend = gated(shared)
    return { factory, backend, handler: serve(factory, { backend }) }
  }
  const [a, b] = [make(), make()]
  const client = await openSession(a.handler)
  await client.on(b.handler).request('ping')
  return { shared, a, b, onA: client.at(a.handler), onB: client, id: client.sessionId }
}

/** What the newest instance takes its client to be subscribed to. */
function subscriptions(factory: ScriptedFactory): unknown[] {
  const uris = new Set<unknown>()
  for (const message of factory.last.messages) {
    if (!('method' in message)) continue
    if (message.method === 'resources/subscribe') uris.add(message.params?.uri)
    if (message.method === 'resources/unsubscribe') uris.delete(message.params?.uri)
  }
  return [...uris].sort()
}

test('a log level and subscriptions taken by one node are in force on the other by the time they are answered', async () => {
  const { a, b, onA, onB } = await pair()
  await onA.request('logging/setLevel', { level: 'debug' })
  expect(b.factory.last.all('logging/setLevel')).toMatchObject([{ params: { level: 'debug' } }])
  await onB.request('resources/subscribe', { uri: 'test://a' })
  expect(subscriptions(a.factory)).toEqual(['test://a'])
  await onA.request('resources/unsubscribe', { uri: 'test://a' })
  expect(subscriptions(b.factory)).toEqual([])
  expect(a.factory.servers).toHaveLength(1)
  expect(b.factory.servers).toHaveLength(1)
})

test('`initialized` that arrives at the other node takes effect on both', async () => {
  const shared = memory()
  const [one, two] = [scripted(), scripted()]
  const { sessionId = '' } = await initialize(serve(one, { backend: shared }))
  const other = new WireClient(serve(two, { backend: shared }), sessionId)
  expect((await other.notify('notifications/initialized')).status).toBe(202)
  expect(two.last.methods).toEqual(['initialize', 'notifications/initialized'])
  expect(one.last.methods).toEqual(['initialize', 'notifications/initialized'])
})

test('subscriptions made on both nodes at once both survive, here and there', async () => {
  const { shared, a, b, onA, onB, id } = await pair()
  const gates = [a.backend.calls.hold('sessions.update'), b.backend.calls.hold('sessions.update')] as const
  const both = [
    onA.request('resources/subscribe', { uri: 'test://a' }),
    onB.request('resources/subscribe', { uri: 'test://b' }),
  ]
  await Promise.all(gates.map(({ reached }) => reached))
  for (const gate of gates) gate.open()
  for (const answer of await Promise.all(both)) expect(answer.body.result).toEqual({})
  await quiet()
  expect((await shared.sessions.load(id))?.record.journal.subscriptions.toSorted()).toEqual(['test://a', 'test://b'])
  expect(subscriptions(a.factory)).toEqual(['test://a', 'test://b'])
  expect(subscriptions(b.factory)).toEqual(['test://a', 'test://b'])
})

test('what changes nothing on a node that has not heard of the last change is carried out all the same', async () => {
  const shared = memory()
  // each hears of the other only by the store
  const node = () => serve(scripted(), { backend: { sessions: shared.sessions } })
  const onA = await openSession(node())
  const onB = onA.at(node())
  await onB.request('ping')
  const uri = 'test://a'
  const change = async (client: WireClient, method: string, params: Record<string, unknown>) =>
    expect((await client.request(method, params)).body.result).toEqual({})
  const stored = async () => (await shared.sessions.load(onA.sessionId))?.record.journal
  await change(onA, 'resources/subscribe', { uri })
  await change(onB, 'resources/unsubscribe', { uri })
  expect(await stored()).toMatchObject({ subscriptions: [] })
  await change(onA, 'resources/subscribe', { uri })
  expect(await stored()).toMatchObject({ subscriptions: [uri] })
  await change(onB, 'logging/setLevel', { level: 'debug' })
  await change(onA, 'logging/setLevel', { level: 'error' })
  await change(onB, 'logging/setLevel', { level: 'debug' })
  expect(await stored()).toMatchObject({ setLevel: { level: 'debug' } })
})

test('of two log levels set at once the one that was stored last counts, on both nodes', async () => {
  const { shared, a, b, onA, onB, id } = await pair()
  const gate = a.backend.calls.hold('sessions.update')
  const first = onA.request('logging/setLevel', { level: 'error' })
  await gate.reached
  await onB.request('logging/setLevel', { level: 'debug' })
  gate.open()
  await first
  await quiet()
  expect((await shared.sessions.load(id))?.record.journal.setLevel).toEqual({ level: 'error' })
  for (const { factory } of [a, b]) {
    expect(factory.last.all('logging/setLevel').at(-1)?.params).toEqual({ level: 'error' })
  }
})

test('a change while the other node’s look at the record is under way is not missed', async () => {
  const { b, onA, onB } = await pair()
  const gate = b.backend.calls.holdAnswer('sessions.load')
  const first = onA.request('resources/subscribe', { uri: 'test://1' })
  await gate.reached
  const second = onA.request('resources/subscribe', { uri: 'test://2' })
  await quiet()
  gate.open()
  await Promise.all([first, second])
  await onB.request('ping')
  await quiet()
  expect(subscriptions(b.factory)).toEqual(['test://1', 'test://2'])
})

test('a look at the record that comes back late undoes nothing', async () => {
  const { a, b, onA, onB } = await pair()
  // B looks because of A's change, and has read the record when the client goes on at B
  const gate = b.backend.calls.holdAnswer('sessions.load')
  const first = onA.request('logging/setLevel', { level: 'debug' })
  await gate.reached
  expect((await onB.request('resources/subscribe', { uri: 'test://b' })).status).toBe(200)
  gate.open()
  await first
  await quiet()
  expect(subscriptions(b.factory)).toEqual(['test://b'])
  expect(b.factory.last.all('resources/unsubscribe')).toEqual([])
  expect(subscriptions(a.factory)).toEqual(['test://b'])
})

test('a change while the other node restores reaches the new instance', async () => {
  for (const held of ['before', 'factory', 'replay'] as const) {
    const shared = memory()
    const client = await openSession(serve(scripted(), { backend: shared }))
    const came = deferred()
    const go = deferred()
    const wait = async () => {
      came.resolve()
      await go.promise
    }
    const factory = scripted(
      {
        initialize: async (request) => {
          if (held === 'replay') await wait()
          return handshake(request)
        },
      },
      () => (held === 'factory' ? wait() : undefined),
    )
    const backend = gated(shared)
    if (held === 'before') {
      const gate = backend.calls.holdAnswer('sessions.load')
      void gate.reached.then(came.resolve as never)
      void go.promise.then(() => gate.open())
    }
    const there = new WireClient(serve(factory, { backend }), client.sessionId)
    const restoring = there.request('tools/list')
    await came.promise
    const change = client.request('logging/setLevel', { level: 'debug' })
    await quiet()
    go.resolve()
    expect((await restoring).status).toBe(200)
    expect((await change).status).toBe(200)
    await quiet()
    expect(factory.last.all('logging/setLevel'), held).toMatchObject([{ params: { level: 'debug' } }])
  }
})

test('a node that no message reaches finds out when it looks, and tells its instance exactly what it does not know', async () => {
  const pass = fakeTime()
  const { sessions, events } = memory()
  const backend = { sessions, events: events! }
  const here = serve(scripted(), { backend })
  const { sessionId = '' } = await initialize(here)
  const client = new WireClient(here, sessionId)
  await client.request('logging/setLevel', { level: 'info' })
  for (const uri of ['test://a', 'test://b']) await client.request('resources/subscribe', { uri })
  const far = scripted()
  const other = client.at(serve(far, { backend }))
  await other.request('ping')
  expect(subscriptions(far)).toEqual(['test://a', 'test://b'])
  const before = far.last.received.count

  await client.notify('notifications/initialized')
  await client.request('logging/setLevel', { level: 'debug' })
  await client.request('resources/unsubscribe', { uri: 'test://a' })
  await client.request('resources/subscribe', { uri: 'test://c' })
  expect(far.last.received.count).toBe(before)
  for (const look of ['the first one', 'another one, with nothing new to see']) {
    await pass(6000)
    expect((await other.request('ping')).status, look).toBe(200)
    const told = far.last.messages
      .slice(before)
      .filter((message) => !('method' in message && message.method === 'ping'))
    expect(
      told.map((message) => 'method' in message && [message.method, message.params]),
      look,
    ).toEqual([
      ['notifications/initialized', undefined],
      ['logging/setLevel', { level: 'debug' }],
      ['resources/subscribe', { uri: 'test://c' }],
      ['resources/unsubscribe', { uri: 'test://a' }],
    ])
  }
  expect(far.servers).toHaveLength(1)
})
