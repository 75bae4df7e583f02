/** What the program wants all sessions to be told is told to each of them once, by one node, at the cost of one message. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { gated } from '../harness/gated-backend.js'
import type { Reply } from '../harness/reply.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession, type WireClient } from '../harness/wire-client.js'

/** So many nodes that know of each other. */
async function cluster(size: number) {
  const shared = memory()
  const onerror = (error: Error) => errors.push(error.message)
  const errors: string[] = []
  const nodes = Array.from({ length: size }, () => {
    const backend = gated(shared)
    return { backend, handler: serve(scripted(), { backend, onerror, keepAlive: 0 }) }
  })
  for (const { handler } of nodes) await handler.status()
  const reset = () => {
    for (const { backend } of nodes) backend.calls.reset()
  }
  const count = (what: string) => nodes.reduce((sum, { backend }) => sum + backend.calls.count(what), 0)
  const node = (i: number) => nodes[i] as (typeof nodes)[number]
  /** A session that is live on some nodes. */
  const session = async (...on: number[]): Promise<WireClient> => {
    const client = await openSession(node(on[0] ?? 0).handler)
    for (const i of on.slice(1)) await client.at(node(i).handler).request('ping')
    return client
  }
  const told = async (client: WireClient, on: number): Promise<string[]> =>
    methodsOf(await client.at(node(on).handler).get())
  return { shared, nodes, node, session, reset, count, errors, told }
}

/** What a stream has to say now. */
async function methodsOf(stream: Reply): Promise<string[]> {
  const methods: string[] = []
  void (async () => {
    for await (const { message } of stream) methods.push((message as { method: string }).method)
  })().catch(() => {})
  await quiet()
  await stream.leave()
  return methods
}

const CHANGED = 'notifications/tools/list_changed'

test('one message to all nodes, an answer of each, and one append a session, however many nodes have it live', async () => {
  const { node, session, reset, count } = await cluster(8)
  const clients = await Promise.all([session(0, 1, 2), session(3, 4), session(5)])
  const streams = await Promise.all(clients.map((client, i) => client.at(node(i + 2).handler).get()))
  await quiet()
  reset()
  await node(7).handler.notify.toolsChanged()
  await quiet()
  expect(count('bus.publish')).toBe(1 + 7)
  expect(count('events.append')).toBe(3)
  expect(count('sessions.load')).toBe(0)
  for (const stream of streams) expect((await stream.next())?.message).toMatchObject({ method: CHANGED })
})

test('nothing is kept for a client that does not listen, but for one that may be about to, or has gone for a while', async () => {
  const pass = fakeTime()
  const { node, session, reset, count, told } = await cluster(3)
  const never = await session(0, 1)
  const gone = await session(1, 2)
  expect(await told(gone, 0)).toEqual([])
  await pass(70_000)
  const young = await session(2, 0)
  for (const client of [never, gone]) for (const i of [0, 1, 2]) await client.at(node(i).handler).request('ping')
  reset()
  await node(0).handler.notify.toolsChanged()
  expect(count('events.append')).toBeLessThanOrEqual(2 + 1) // a stream that is not there yet is opened, and appended to again
  expect(await told(gone, 1)).toEqual([CHANGED])
  expect(await told(young, 1)).toEqual([CHANGED])
  await pass(4_000)
  expect(await told(never, 1)).toEqual([])
})

test('a client that changes nodes while a broadcast is on its way is told once', async () => {
  const { node, session } = await cluster(3)
  for (const late of [1, 2]) {
    const client = await session(1)
    const before = await client.at(node(1).handler).get()
    const heard = methodsOf(before)
    // One of the two nodes hears of it only when the client has moved.
    const gate = node(late).backend.calls.hold('sessions.look')
    const told = node(0).handler.notify.toolsChanged()
    await quiet()
    const after = await client.at(node(2).handler).get()
    gate.open()
    await told
    expect([...(await heard), ...(await methodsOf(after))]).toEqual([CHANGED])
  }
})

test('a node that is asked for a session just after it heard of a broadcast tells it all the same', async () => {
  const { node, session, shared, told } = await cluster(3)
  const client = await session(1)
  expect(await told(client, 1)).toEqual([])
  // Node 2 hears of it first; the client comes to it; node 1 hears of it then, and leaves it to node 2.
  const gates = ['sessions.look', 'events.look'].map((what) => node(1).backend.calls.hold(what))
  const broadcasting = node(0).handler.notify.toolsChanged()
  for (const { reached } of gates) await reached
  const stream = await client.at(node(2).handler).get()
  for (const gate of gates) gate.open()
  await broadcasting
  expect(await methodsOf(stream)).toEqual([CHANGED])
  expect((await shared.sessions.load(client.sessionId))?.holders).toHaveLength(2)
})

test('if it cannot be found out who is to tell, all do, and the log keeps it once', async () => {
  const { node, nodes, session, told, count, reset } = await cluster(3)
  const client = await session(0, 1, 2)
  expect(await told(client, 0)).toEqual([])
  for (const { backend } of nodes) backend.calls.fail('sessions.look')
  reset()
  await node(0).handler.notify.toolsChanged()
  expect(count('events.append')).toBe(3)
  expect(await told(client, 2)).toEqual([CHANGED])
})

test('a node that does not say that it has told its sessions is told of', async () => {
  const pass = fakeTime()
  const { node, errors } = await cluster(2)
  node(1).backend.calls.replace('bus.publish', async () => {})
  const told = node(0).handler.notify.toolsChanged()
  await pass(2_500)
  await told
  expect(errors).toEqual([expect.stringMatching(/^1 nodes did not say in time/)])
})

test('five thousand sessions do not hold up the event loop', async () => {
  const { node } = await cluster(1)
  for (let i = 0; i < 5_000; i += 250) {
    await Promise.all(Array.from({ length: 250 }, () => openSession(node(0).handler)))
  }
  let turns = 0
  let done = false
  const told = node(0)
    .handler.notify.toolsChanged()
    .then(() => {
      done = true
    })
  while (!done) {
    turns++
    await new Promise(setImmediate)
  }
  await told
  expect(turns).toBeGreaterThan(150)
})
