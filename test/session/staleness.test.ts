/** What this node has in memory is believed for a few seconds, and costs the store next to nothing. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { ServerFactory } from '../../src/index.js'
import { createSessionHandler, type SessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import { deferred, FAKED, gated, quiet } from './gated-store.js'
import { scripted, UNANSWERED } from './scripted-server.js'
import { openSession, read } from './wire-client.js'

vi.setConfig({ testTimeout: 5000 })

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
/** What "a few seconds" may come to. */
const BOUND = 7 * SECOND

const handlers: SessionHandler[] = []
beforeEach(() => {
  vi.useFakeTimers({ toFake: FAKED })
})
afterEach(async () => {
  await Promise.all(handlers.splice(0).map((handler) => handler.close()))
  vi.useRealTimers()
})

function serve(factory: ServerFactory, options: SessionHandlerOptions = {}): SessionHandler {
  const handler = createSessionHandler(factory, options)
  handlers.push(handler)
  return handler
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

/** A node that hears nothing of the others. */
function deaf(options: SessionHandlerOptions = {}, script = {}) {
  const inner = memory()
  const backend = gated(inner)
  const factory = scripted(script)
  const handler = serve(factory, { backend: { sessions: backend.sessions, events: backend.events }, ...options })
  return { inner, backend, factory, handler }
}

/** A node among others, none of which says anything. */
function lonely() {
  const backend = gated()
  const factory = scripted()
  return { backend, factory, handler: serve(factory, { backend }) }
}

describe('a record deleted behind our back, with every message lost', () => {
  test('is served at most a few seconds more, however steady its use', async () => {
    const { inner, factory, handler } = deaf()
    const client = await openSession(handler)
    await inner.sessions.delete(client.sessionId)
    let served = 0
    for (;;) {
      const { status } = await client.request('ping')
      if (status === 404) break
      expect(status).toBe(200)
      await pass(250)
      served += 250
      expect(served).toBeLessThanOrEqual(5 * SECOND)
    }
    expect(factory.last.closed).toBe(true)
  })

  test('is not served at all when it comes after a pause', async () => {
    const { inner, factory, handler } = deaf()
    const client = await openSession(handler)
    await inner.sessions.delete(client.sessionId)
    await pass(6 * SECOND)
    expect((await client.request('ping')).status).toBe(404)
    expect(factory.last.methods).not.toContain('ping')
    expect(factory.last.closed).toBe(true)
  })

  test('running handlers are aborted, their streams end without a response', async () => {
    const { inner, factory, handler } = deaf({ upgradeAfter: 0 }, { 'tools/call': () => UNANSWERED })
    const client = await openSession(handler)
    const response = client.send('POST', { jsonrpc: '2.0', id: 1, method: 'tools/call' })
    await pass(1)
    const reading = read(await response)
    await inner.sessions.delete(client.sessionId)
    await pass(BOUND)
    expect(factory.last.closed).toBe(true)
    expect((await reading).events).toEqual([])
  })

  test('open streams end', async () => {
    const { inner, factory, handler } = deaf()
    const client = await openSession(handler)
    const stream = await client.get()
    const rest = stream.rest()
    await inner.sessions.delete(client.sessionId)
    await pass(BOUND)
    expect(await Promise.race([rest, quiet().then(() => 'still open')])).toEqual([])
    expect(factory.last.closed).toBe(true)
  })

  test('also those of an instance that is gone', async () => {
    const { inner, factory, handler } = deaf()
    const client = await openSession(handler)
    const stream = await client.get()
    const rest = stream.rest()
    await factory.last.close()
    await inner.sessions.delete(client.sessionId)
    await pass(BOUND)
    expect(await Promise.race([rest, quiet().then(() => 'still open')])).toEqual([])
  })

  test('a restore that took longer than that is not trusted either', async () => {
    const inner = memory()
    const client = await openSession(serve(scripted(), { backend: inner }))
    const built = deferred()
    const factory = scripted({}, () => built.promise)
    client.on(serve(factory, { backend: { ...inner, bus: memory().bus! } }))
    const request = client.request('tools/list')
    await quiet()
    await inner.sessions.delete(client.sessionId)
    await pass(20 * SECOND)
    built.resolve()
    expect((await request).status).toBe(404)
    expect(factory.last.methods).not.toContain('tools/list')
  })

  test('onSessionClosed says: gone; once', async () => {
    const onSessionClosed = vi.fn()
    const { inner, handler } = deaf({ onSessionClosed })
    const client = await openSession(handler)
    await inner.sessions.delete(client.sessionId)
    await pass(6 * SECOND)
    await Promise.all([client.request('ping'), client.request('ping')])
    await pass(10 * SECOND)
    expect(onSessionClosed).toHaveBeenCalledOnce()
    expect(onSessionClosed).toHaveBeenCalledWith(expect.objectContaining({ id: client.sessionId }), 'gone')
  })
})

describe('a clock that is set back by an hour', () => {
  test('does not make what is in memory an hour younger', async () => {
    const { inner, handler } = deaf()
    const client = await openSession(handler)
    await inner.sessions.delete(client.sessionId)
    vi.setSystemTime(Date.now() - HOUR)
    await pass(6 * SECOND)
    expect((await client.request('ping')).status).toBe(404)
  })

  test('does not hold up the streams of slow calls', async () => {
    const { handler } = deaf({}, { 'tools/call': () => UNANSWERED })
    const client = await openSession(handler)
    const begun: number[] = []
    const call = (id: number) =>
      client.send('POST', { jsonrpc: '2.0', id, method: 'tools/call' }).then(async ({ status, body }) => {
        begun.push(status)
        await body?.cancel()
      })
    void call(1)
    await quiet()
    vi.setSystemTime(Date.now() - HOUR)
    await pass(50)
    void call(2)
    await pass(500)
    expect(begun).toEqual([200, 200])
    await client.delete()
  })

  test('does not keep an instance that nobody uses', async () => {
    const { factory, handler } = deaf({ liveIdle: 10 * SECOND })
    await openSession(handler)
    vi.setSystemTime(Date.now() - HOUR)
    await pass(20 * SECOND)
    expect(factory.last.closed).toBe(true)
  })
})

describe('what a session costs the store', () => {
  test('steady calls: nothing', async () => {
    const { backend, handler } = lonely()
    const client = await openSession(handler)
    backend.calls.reset()
    for (let i = 0; i < 500; i++) expect((await client.request('ping')).status).toBe(200)
    expect(backend.calls.count('sessions')).toBe(0)
    expect(backend.calls.count('events')).toBe(0)
    expect(backend.calls.count('bus')).toBe(0)
  })

  test('steady calls over ten seconds: a look every other second, off the request’s path', async () => {
    const { backend, handler } = lonely()
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

  test('also by use that always meets a restored instance', async () => {
    const { handler, factory } = deaf({ idleTtl: MINUTE, liveIdle: 0 })
    const client = await openSession(handler)
    for (let i = 0; i < 10; i++) {
      await pass(40 * SECOND)
      expect((await client.request('ping')).status).toBe(200)
    }
    expect(factory.servers.length).toBeGreaterThan(10)
  })

  test('also when the refresh that a restore makes fails', async () => {
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

  test('is refreshed by an open stream, but rarely', async () => {
    const { backend, handler } = deaf({ idleTtl: 10 * MINUTE })
    const client = await openSession(handler)
    const stream = await client.get()
    backend.calls.reset()
    await pass(HOUR)
    const touches = backend.calls.count('sessions.touch')
    expect(touches).toBeGreaterThanOrEqual(10)
    expect(touches).toBeLessThanOrEqual(60)
    await stream.cancel()
    await pass(8 * MINUTE)
    expect((await client.request('ping')).status).toBe(200)
  })

  test('also by the open stream of an instance that is gone', async () => {
    const { factory, handler } = deaf({ idleTtl: MINUTE })
    const client = await openSession(handler)
    const stream = await client.get()
    await factory.last.close()
    await pass(5 * MINUTE)
    await stream.cancel()
    expect((await client.request('ping')).status).toBe(200)
  })

  test('and no more often than by that of one that lives', async () => {
    const { backend, factory, handler } = deaf()
    const client = await openSession(handler)
    const stream = await client.get()
    await factory.last.close()
    backend.calls.reset()
    await pass(6 * HOUR)
    expect(backend.calls.count('sessions.touch')).toBeGreaterThanOrEqual(5)
    expect(backend.calls.count('sessions.touch')).toBeLessThanOrEqual(12)
    await stream.cancel()
  })

  test('and by a call that runs', async () => {
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

  test('off: a session can live for weeks', async () => {
    const { handler } = deaf()
    const client = await openSession(handler)
    for (let week = 0; week < 3; week++) {
      await pass(6 * DAY)
      expect((await client.request('ping')).status).toBe(200)
    }
  })
})

describe('the store is away', () => {
  test('for longer than memory is believed: 503, then fine, with the same live instance', async () => {
    const { backend, factory, handler } = deaf()
    const client = await openSession(handler)
    await pass(1500)
    const recover = backend.calls.fail('sessions.load')
    expect((await client.request('ping')).status).toBe(200)
    await pass(2000)
    expect((await client.request('ping')).status).toBe(200)
    await pass(3000)
    for (let i = 0; i < 3; i++) {
      const answers = await Promise.all([client.request('ping'), client.request('ping')])
      for (const answer of answers) {
        expect(answer.status).toBe(503)
        expect(answer.retryAfter).toBeDefined()
        expect(answer.body.error.code).toBe(-32603)
      }
    }
    expect((await client.send('GET', undefined).then(read)).status).toBe(503)
    expect((await client.notify('notifications/roots/list_changed')).status).toBe(503)
    recover()
    expect((await client.request('ping')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
    expect(factory.last.closed).toBe(false)
  })

  test('when the refresh of the expiry is due: the same', async () => {
    const { backend, factory, handler } = deaf({ idleTtl: MINUTE })
    const client = await openSession(handler)
    await pass(20 * SECOND)
    const recover = backend.calls.fail('sessions.touch')
    expect((await client.request('ping')).status).toBe(503)
    recover()
    expect((await client.request('ping')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
  })

  test('a call that runs meanwhile is not disturbed', async () => {
    const answer = deferred<object>()
    const { backend, handler } = deaf({ responseMode: 'json' }, { 'tools/call': () => answer.promise })
    const client = await openSession(handler)
    const call = client.request('tools/call')
    await quiet()
    const recover = backend.calls.fail('sessions.load')
    await pass(MINUTE)
    recover()
    answer.resolve({ done: true })
    expect((await call).body.result).toEqual({ done: true })
  })

  test('a store that hangs: 503 after the time limit, and not one question for each request', async () => {
    const { backend, handler } = deaf({ backendTimeout: 1000 })
    const client = await openSession(handler)
    await pass(6 * SECOND)
    backend.calls.reset()
    const gate = backend.calls.hold('sessions.load')
    const answers = [1, 2, 3, 4, 5].map(() => client.request('ping'))
    await gate.reached
    await pass(1001)
    for (const answer of await Promise.all(answers)) expect(answer.status).toBe(503)
    expect(backend.calls.count('sessions.load')).toBe(1)
  })
})
