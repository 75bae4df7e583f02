/** How long a session lives, and what it costs the store to know. */
import { beforeEach, describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'
import { DAY, deaf, HOUR, MINUTE, SECOND } from './deaf.js'

let pass: ReturnType<typeof fakeTime>
beforeEach(() => {
  pass = fakeTime()
})

describe('idle time to live', () => {
  test('is refreshed by use', async () => {
    const { handler } = deaf({ idleTtl: MINUTE })
    const client = await openSession(handler)
    for (let i = 0; i < 10; i++) {
      await pass(40 * SECOND)
      expect((await client.request('ping')).status).toBe(200)
    }
    await pass(61 * SECOND)
    expect((await client.request('ping')).status).toBe(404)
  })

  test('is refreshed by use that always meets a restored instance', async () => {
    const { handler, factory } = deaf({ idleTtl: MINUTE, liveIdle: 0 })
    const client = await openSession(handler)
    for (let i = 0; i < 10; i++) {
      await pass(40 * SECOND)
      expect((await client.request('ping')).status).toBe(200)
    }
    expect(factory.servers.length).toBeGreaterThan(10)
  })

  test('is refreshed by the next use when the refresh that a restore makes has failed', async () => {
    const { backend, handler } = deaf({ idleTtl: MINUTE, liveIdle: 30 * MINUTE })
    const client = await openSession(handler)
    const node = serve(scripted(), { backend, idleTtl: MINUTE })
    await pass(55 * SECOND)
    const recover = backend.calls.fail('sessions.touch')
    expect((await client.on(node).request('ping')).status).toBe(200)
    recover()
    await pass(3 * SECOND)
    expect((await client.request('ping')).status).toBe(200)
    await quiet()
    await pass(30 * SECOND)
    expect((await client.request('ping')).status).toBe(200)
  })

  test('is refreshed by an open stream, though rarely', async () => {
    const { backend, handler } = deaf({ idleTtl: 10 * MINUTE })
    const client = await openSession(handler)
    const stream = await client.get()
    backend.calls.reset()
    await pass(HOUR)
    const touches = backend.calls.count('sessions.touch')
    expect(touches).toBeGreaterThanOrEqual(10)
    expect(touches).toBeLessThanOrEqual(60)
    await stream.leave()
    await pass(8 * MINUTE)
    expect((await client.request('ping')).status).toBe(200)
  })

  test('is refreshed by an open stream of a session whose instance is gone', async () => {
    const { factory, handler } = deaf({ idleTtl: MINUTE })
    const client = await openSession(handler)
    const stream = await client.get()
    await factory.last.close()
    await pass(5 * MINUTE)
    await stream.leave()
    expect((await client.request('ping')).status).toBe(200)
  })

  test('is refreshed by such a stream no more often than by that of a live session', async () => {
    const { backend, factory, handler } = deaf()
    const client = await openSession(handler)
    const stream = await client.get()
    await factory.last.close()
    backend.calls.reset()
    await pass(6 * HOUR)
    expect(backend.calls.count('sessions.touch')).toBeGreaterThanOrEqual(5)
    expect(backend.calls.count('sessions.touch')).toBeLessThanOrEqual(12)
    await stream.leave()
  })

  test('is refreshed by a call that runs', async () => {
    const answer = deferred<object>()
    const { handler } = deaf({ idleTtl: MINUTE, responseMode: 'json' }, { 'tools/call': () => answer.promise })
    const client = await openSession(handler)
    const call = client.request('tools/call')
    await quiet()
    await pass(5 * MINUTE)
    answer.resolve({ done: true })
    expect((await call).body.result).toEqual({ done: true })
    expect((await client.request('ping')).status).toBe(200)
  })

  test.each([
    ['a reply that nobody waits for any more', { id: 'gone:0', result: {} }, 400],
    ['a `cancelled` for what does not run', { method: 'notifications/cancelled', params: { requestId: 9 } }, 202],
  ])('is refreshed by %s, on a node that has no instance', async (_, message, status) => {
    const { inner, handler } = deaf({ idleTtl: MINUTE })
    const client = await openSession(handler)
    client.on(serve(scripted(), { backend: { sessions: inner.sessions }, idleTtl: MINUTE }))
    for (let i = 0; i < 3; i++) {
      await pass(40 * SECOND)
      expect((await client.post(message)).status).toBe(status)
    }
    await pass(40 * SECOND)
    expect((await client.request('ping')).status).toBe(200)
  })

  test('is not refreshed by those whom the session does not belong to', async () => {
    const { handler } = deaf({ idleTtl: MINUTE })
    const client = await openSession(handler)
    for (let i = 0; i < 3; i++) {
      await pass(19 * SECOND)
      const foreign = await client.request('ping', {}, { authInfo: { token: 't', clientId: 'mallory', scopes: [] } })
      expect(foreign.status).toBe(404)
    }
    await pass(10 * SECOND)
    expect((await client.request('ping')).status).toBe(404)
  })
})

describe('absolute lifetime', () => {
  test('ends a session in steady use', async () => {
    const { handler, factory } = deaf({ maxAge: 10 * MINUTE, idleTtl: HOUR })
    const client = await openSession(handler)
    let age = 0
    for (;;) {
      await pass(2 * SECOND)
      age += 2 * SECOND
      const { status } = await client.request('ping')
      if (status === 404) break
      expect(age).toBeLessThanOrEqual(10 * MINUTE + 5 * SECOND)
    }
    expect(age).toBeGreaterThanOrEqual(10 * MINUTE)
    expect(factory.last.closed).toBe(true)
  })

  test('is not lengthened by a restore, nor by what is journalled', async () => {
    const inner = memory()
    const options = { maxAge: 10 * MINUTE, idleTtl: HOUR }
    const client = await openSession(serve(scripted(), { ...options, backend: inner }))
    await pass(9 * MINUTE)
    client.on(serve(scripted(), { ...options, backend: inner }))
    expect((await client.request('resources/subscribe', { uri: 'test://a' })).status).toBe(200)
    await pass(50 * SECOND)
    expect((await client.request('ping')).status).toBe(200)
    await pass(16 * SECOND)
    expect((await client.request('ping')).status).toBe(404)
  })

  test('that is not set lets a session live for weeks', async () => {
    const { handler } = deaf()
    const client = await openSession(handler)
    for (let week = 0; week < 3; week++) {
      await pass(6 * DAY)
      expect((await client.request('ping')).status).toBe(200)
    }
  })
})

describe('what a session costs the store', () => {
  test('steady calls: nothing', async () => {
    const backend = gated()
    const handler = serve(scripted(), { backend })
    const client = await openSession(handler)
    backend.calls.reset()
    for (let i = 0; i < 250; i++) {
      expect((await client.request('ping')).status).toBe(200)
      expect((await client.request('tools/call', { name: 'x' })).status).toBe(200)
    }
    expect(backend.calls.count('sessions')).toBe(0)
    expect(backend.calls.count('events')).toBe(0)
    expect(backend.calls.count('bus')).toBe(0)
  })

  test('steady calls over ten seconds: a look every other second, off the request’s path', async () => {
    const backend = gated()
    const handler = serve(scripted(), { backend })
    const client = await openSession(handler)
    backend.calls.reset()
    for (let i = 0; i < 100; i++) {
      await pass(100)
      expect((await client.request('ping')).status).toBe(200)
    }
    expect(backend.calls.count('sessions.load')).toBeGreaterThanOrEqual(3)
    expect(backend.calls.count('sessions.load')).toBeLessThanOrEqual(5)
    expect(backend.calls.count('sessions')).toBe(backend.calls.count('sessions.load'))
    // however slow that look is
    await pass(3 * SECOND)
    const gate = backend.calls.hold('sessions.load')
    expect((await client.request('ping')).status).toBe(200)
    await gate.reached
    expect((await client.request('ping')).status).toBe(200)
    gate.open()
  })

  test('a session at rest: nothing', async () => {
    const { backend, handler } = deaf({ liveIdle: DAY })
    await openSession(handler)
    backend.calls.reset()
    await pass(6 * HOUR)
    expect(backend.calls.count('sessions')).toBe(0)
  })

  test('expiry is refreshed once an hour, for a session in use all day', async () => {
    const { backend, handler } = deaf()
    const client = await openSession(handler)
    backend.calls.reset()
    for (let minute = 0; minute < 24 * 60; minute += 4) {
      await pass(4 * MINUTE)
      await client.request('ping')
    }
    expect(backend.calls.count('sessions.touch')).toBeGreaterThanOrEqual(22)
    expect(backend.calls.count('sessions.touch')).toBeLessThanOrEqual(25)
  })
})
