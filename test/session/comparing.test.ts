/** What a comparison with the store is worth: no more than what the store knew when it was asked. */
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'
import { deaf } from './deaf.js'

describe('an answer of the store that was long on its way', () => {
  test.each(['sessions.look', 'sessions.load'] as const)('%s: is as old as its question', async (call) => {
    const pass = fakeTime()
    const { inner, backend, handler, factory } = deaf({ backendTimeout: 60_000 }, { slow: () => new Promise(() => {}) })
    const client = await openSession(handler)
    void client.open({ id: 'slow', method: 'slow' })
    await factory.last.got('slow')
    const gate = backend.calls.holdAnswer(call)
    await pass(call === 'sessions.look' ? 4100 : 2500)
    if (call === 'sessions.load') void client.request('ping')
    await gate.reached
    await inner.sessions.delete(client.sessionId)
    await pass(2000)
    gate.open()
    await quiet()
    // By now the store was last asked 5 s ago, with the session still there.
    await pass(3200)
    expect((await client.request('ping')).status).toBe(404)
  })

  test('does not keep a request from being served, however slow the store is', async () => {
    const pass = fakeTime()
    const { backend, handler } = deaf({ backendTimeout: 60_000 })
    const client = await openSession(handler)
    await pass(10_000)
    const gate = backend.calls.holdAnswer('sessions.load')
    const used = client.request('ping')
    await gate.reached
    await pass(8000)
    gate.open()
    expect((await used).status).toBe(200)
  })

  test('does not make a node trust itself that was taken for dead meanwhile', async () => {
    const pass = fakeTime()
    const shared = memory()
    const backend = gated(shared)
    const factory = scripted({ slow: () => new Promise(() => {}) })
    const handler = serve(factory, { backend, backendTimeout: 60_000 })
    const client = await openSession(handler)
    void client.open({ id: 'slow', method: 'slow' })
    await factory.last.got('slow')
    const look = backend.calls.holdAnswer('sessions.look')
    await pass(4100)
    await look.reached
    const beat = backend.calls.hold('bus.beat')
    await pass(1500)
    await beat.reached
    await pass(6000)
    // It is dead to the others, who tell it nothing.
    await shared.sessions.delete(client.sessionId)
    beat.open()
    await quiet()
    look.open()
    await quiet()
    expect((await client.request('ping')).status).toBe(404)
  })
})

test('a store that fails while all of many sessions are being compared for requests harms nothing else', async () => {
  const pass = fakeTime()
  const shared = memory()
  const backend = gated(shared)
  const factory = scripted({ slow: () => new Promise(() => {}) })
  const handler = serve(factory, { backend, onerror: () => {} })
  const clients = []
  for (let i = 0; i < 257; i++) clients.push(await openSession(handler))
  for (const client of clients) void client.open({ id: 'slow', method: 'slow' })
  const gate = backend.calls.hold('sessions.look')
  await pass(4100)
  await gate.reached
  // The 257th is a part of its own, and is being compared for a request by the time its turn comes.
  const load = backend.calls.hold('sessions.load')
  const used = clients[256]!.request('ping')
  await load.reached
  backend.calls.fail('sessions.look')
  gate.fail()
  await quiet()
  load.open()
  expect((await used).status).toBe(200)
  await quiet()
})
