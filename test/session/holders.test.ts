/** Who is told of what happens to a session: the nodes that hold it, and nobody else. */
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { gated } from '../harness/gated-backend.js'
import { type Script, scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'

/** So many nodes on one backend, each of which has a session of its own. */
async function cluster(size: number, script: Script = {}) {
  const shared = memory()
  const nodes = Array.from({ length: size }, () => {
    const factory = scripted(script)
    const backend = gated(shared)
    return { factory, backend, handler: serve(factory, { backend, liveIdle: 60_000 }) }
  })
  for (const { handler } of nodes) await openSession(handler)
  const reset = () => {
    for (const { backend } of nodes) backend.calls.reset()
  }
  reset()
  const count = (what: string) => nodes.reduce((sum, { backend }) => sum + backend.calls.count(what), 0)
  const holders = async (id: string) => (await shared.sessions.load(id))?.holders?.map((name) => name.split(':')[0])
  return { shared, nodes, reset, count, holders, node: (i: number) => nodes[i] as (typeof nodes)[number] }
}

describe.each([1, 8, 24])('with %i nodes', (size) => {
  test('a session that one node holds costs no message, whatever happens to it', async () => {
    const { node, reset, count } = await cluster(size)
    const client = await openSession(node(0).handler)
    expect(count('sessions.create')).toBe(1)
    expect(count('sessions.update')).toBe(1)
    await client.request('logging/setLevel', { level: 'debug' })
    await client.notify('notifications/cancelled', { requestId: 'late' })
    await client.notify('notifications/roots/list_changed')
    await client.delete()
    await quiet()
    expect(count('bus.publish')).toBe(0)
    expect(count('bus.nodes')).toBe(0)
    reset()
  })
})

test('of eight nodes those two are told that hold the session', async () => {
  const { node, nodes, reset, count, holders } = await cluster(8)
  const client = await openSession(node(0).handler)
  for (const other of [3, 5]) await client.at(node(other).handler).request('ping')
  expect(await holders(client.sessionId)).toEqual([0, 3, 5].map((i) => node(i).handler.nodeId))
  reset()
  await client.request('logging/setLevel', { level: 'debug' })
  await client.notify('notifications/roots/list_changed')
  await client.delete()
  // Three questions to two nodes, each with its answer.
  expect(count('bus.publish')).toBe(12)
  const told = nodes.filter(({ factory }) =>
    factory.servers.some((server) => server.all('logging/setLevel').length > 0),
  )
  expect(told).toEqual([node(0), node(3), node(5)])
  expect(await holders(client.sessionId)).toBeUndefined()
})

test('a node that beats and does not hear holds up nobody whose session it does not hold', async () => {
  const { shared, node } = await cluster(2)
  await shared.bus.beat('deaf', 60_000)
  const client = await openSession(node(0).handler)
  const before = performance.now()
  expect((await client.notify('notifications/cancelled', { requestId: 'late' })).status).toBe(202)
  expect((await client.notify('notifications/roots/list_changed')).status).toBe(202)
  expect((await client.delete()).status).toBe(200)
  expect(performance.now() - before).toBeLessThan(2_000)
})

test('a restore asks the store once', async () => {
  const { node, reset } = await cluster(2)
  const client = await openSession(node(0).handler)
  reset()
  await client.at(node(1).handler).request('ping')
  await quiet()
  expect(node(1).backend.calls.all.filter((call) => call.startsWith('sessions.') && call !== 'sessions.touch')).toEqual(
    ['sessions.load'],
  )
})

test('a session is held by whoever follows it, and no longer', async () => {
  const pass = fakeTime()
  const { node, holders } = await cluster(2)
  const client = await openSession(node(0).handler)
  const onB = client.at(node(1).handler)
  const stream = await onB.get()
  const both = [node(0).handler.nodeId, node(1).handler.nodeId]
  expect(await holders(client.sessionId)).toEqual(both)
  await pass(100_000)
  expect(node(0).handler.nodeId).toBe(both[0])
  expect(await holders(client.sessionId)).toEqual([both[1]])
  await stream.leave()
  await pass(100_000)
  expect(await holders(client.sessionId)).toEqual([])
})

test('of a session that four nodes have live, each lets go of its instance four times as soon', async () => {
  const pass = fakeTime()
  const { node, holders } = await cluster(4)
  const client = await openSession(node(0).handler)
  for (let round = 0; round < 2; round++) {
    for (const i of [0, 1, 2, 3]) await client.at(node(i).handler).request('ping')
    await pass(3_000)
  }
  const onA = client.at(node(0).handler)
  await onA.request('ping')
  await pass(20_000)
  expect(await holders(client.sessionId)).toEqual([])
  // Alone it stays for the whole time.
  await onA.request('ping')
  await pass(50_000)
  expect(await holders(client.sessionId)).toEqual([node(0).handler.nodeId])
})

test('names of nodes that have ended are taken out when there is something to tell', async () => {
  const pass = fakeTime()
  const { shared, node, holders } = await cluster(2)
  const client = await openSession(node(0).handler)
  const { sessionId } = client
  for (let i = 0; i < 20; i++) await shared.sessions.load(sessionId, `dead${i}:1`)
  await pass(12_000)
  await client.request('logging/setLevel', { level: 'debug' })
  await quiet()
  expect(await holders(sessionId)).toEqual([node(0).handler.nodeId])
})

test('a release that comes late does not take out who holds the session again', async () => {
  const pass = fakeTime()
  const { node, holders } = await cluster(2)
  const client = await openSession(node(0).handler)
  const gate = node(0).backend.calls.hold('sessions.release')
  await pass(100_000)
  await gate.reached
  await client.request('ping')
  gate.open()
  await quiet()
  expect(await holders(client.sessionId)).toEqual([node(0).handler.nodeId])
})

test('a store that lost the holders learns of them when the session is compared with it', async () => {
  const pass = fakeTime()
  const { shared, node, holders } = await cluster(1)
  const client = await openSession(node(0).handler)
  const stored = await shared.sessions.load(client.sessionId)
  await shared.sessions.release?.(client.sessionId, stored?.holders ?? [])
  await pass(6_000)
  await client.request('ping')
  await quiet()
  expect(await holders(client.sessionId)).toEqual([node(0).handler.nodeId])
})

describe('a change that is made while another node restores the session', () => {
  test.each([
    ['before its record is loaded', 'hold'],
    ['after its record is loaded', 'holdAnswer'],
  ] as const)('%s: is in force there when it serves', async (_, how) => {
    const { node } = await cluster(2)
    const client = await openSession(node(0).handler)
    const gate = node(1).backend.calls[how]('sessions.load')
    const racing = client.at(node(1).handler).request('ping')
    await gate.reached
    await client.request('logging/setLevel', { level: 'debug' })
    await client.request('resources/subscribe', { uri: 'test://a' })
    gate.open()
    expect((await racing).status).toBe(200)
    const { last } = node(1).factory
    expect(last.all('logging/setLevel')).toHaveLength(1)
    expect(last.all('resources/subscribe')).toHaveLength(1)
    expect(last.methods.at(-1)).toBe('ping')
  })
})

describe('a client’s message for one instance, at a node that has none', () => {
  test('a response, progress and `cancelled` get there, and nothing is restored', async () => {
    const { node } = await cluster(2, { 'tools/call': () => new Promise(() => {}) })
    const client = await openSession(node(0).handler)
    const { last } = node(0).factory
    const running = client.open({ id: 'slow', method: 'tools/call', params: { name: 'never' } })
    await last.got('tools/call')
    await last.ask(7, 'elicitation/create', { _meta: { progressToken: 1 } })
    const stream = await client.get()
    const question = (await stream.next())?.message as { id: string; params: { _meta: { progressToken: string } } }
    const onB = client.at(node(1).handler)
    const { progressToken } = question.params._meta
    expect((await onB.notify('notifications/progress', { progressToken, progress: 1 })).status).toBe(202)
    expect((await onB.respond(question.id, { action: 'accept' })).status).toBe(202)
    expect(last.answers).toMatchObject([{ id: 7, result: { action: 'accept' } }])
    expect((await onB.notify('notifications/cancelled', { requestId: 'slow' })).status).toBe(202)
    expect(last.all('notifications/progress')).toHaveLength(1)
    expect(last.all('notifications/cancelled')).toHaveLength(1)
    expect(node(1).factory.servers).toHaveLength(1) // of its own session
    void running
  })
})
