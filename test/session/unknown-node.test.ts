/** A client's response whose id names a node that there is not: refused at once, and however many come, the living are looked up once a second. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { ClusterNode } from '../../src/cluster/node.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'

/** A node whose store has answered for long enough, so that it knows who is dead. */
async function settledNode(shared = memory()) {
  const pass = fakeTime()
  const backend = gated(shared)
  const handler = serve(scripted(), { backend })
  const client = await openSession(handler)
  await pass(7_000)
  backend.calls.reset()
  return { pass, shared, backend, handler, client }
}

test('is refused without asking anybody, live or not', async () => {
  const { pass, shared, backend, client } = await settledNode()
  // Time stands still: nothing that waits would be answered.
  expect((await client.respond('nobody:0')).status).toBe(400)
  expect(backend.calls.count('bus.nodes')).toBe(1)
  expect(backend.calls.count('bus.publish')).toBe(0)

  const other = gated(shared)
  const elsewhere = serve(scripted(), { backend: other })
  await openSession(elsewhere)
  await pass(7_000)
  other.calls.reset()
  expect((await client.at(elsewhere).respond('nobody:0')).status).toBe(400)
  expect(other.calls.count('bus.nodes')).toBe(1)
  expect(other.calls.count('bus.publish')).toBe(0)
})

test('a flood of them costs one look-up a second', async () => {
  const { pass, backend, client } = await settledNode()
  const statuses: number[] = []
  const send = async (i: number) => statuses.push((await client.respond(`nobody${i}:0`)).status)
  const sent: Promise<unknown>[] = []
  for (let i = 0; i < 50; i++) {
    for (let j = 0; j < 20; j++) sent.push(send(100 * i + j))
    await pass(100)
  }
  await pass(1_000)
  await Promise.all(sent)
  expect(statuses).toHaveLength(1000)
  expect(new Set(statuses)).toEqual(new Set([400]))
  expect(backend.calls.count('bus.nodes')).toBeLessThanOrEqual(7)
  expect(backend.calls.count('bus.publish')).toBe(0)
})

test('a node that joined after the last look is found by the next one, and gets its response', async () => {
  const { pass, shared, client } = await settledNode()
  expect((await client.respond('nobody:0')).status).toBe(400)
  await pass(100)
  const factory = scripted()
  const newcomer = serve(factory, { backend: gated(shared) })
  const there = client.at(newcomer)
  expect((await there.request('ping')).status).toBe(200)
  const stream = await there.get()
  await factory.last.ask(0, 'roots/list')
  const asked = await stream.next()
  const responded = client.respond(asked?.message.id as string, { roots: [] })
  await pass(1_000)
  expect((await responded).status).toBe(202)
  expect(factory.last.answers).toMatchObject([{ id: 0, result: { roots: [] } }])
  await stream.leave()
})

test('while it is not certain who is dead, a name without a heartbeat may be that of a node, and is asked', async () => {
  const pass = fakeTime()
  const node = new ClusterNode(memory().bus, true)
  await node.ready()
  await pass(1_000)
  expect(await node.mayExist('silent')).toBe(true)
  await pass(5_000)
  expect(await node.mayExist('silent')).toBe(false)
  await node.close()
})
