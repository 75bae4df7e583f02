/** What a node has in memory is believed for a few seconds (invariants 6 and 8). */
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'
import { deaf, HOUR, MINUTE, SECOND } from './deaf.js'

/** What "a few seconds" may come to. */
const BOUND = 7 * SECOND

let pass: ReturnType<typeof fakeTime>
beforeEach(() => {
  pass = fakeTime()
})

describe('a record deleted behind our back, with every message lost', () => {
  test('its session is served at most a few seconds more, however steady its use', async () => {
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

  test('its session is not served at all after a pause', async () => {
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
    const answer = client.open({ id: 1, method: 'tools/call' })
    await pass(1)
    const reading = (await answer).rest()
    await inner.sessions.delete(client.sessionId)
    await pass(BOUND)
    expect(factory.last.closed).toBe(true)
    expect(await reading).toEqual([])
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

  test('open streams of a session whose instance is gone end, too', async () => {
    const { inner, factory, handler } = deaf()
    const client = await openSession(handler)
    const stream = await client.get()
    const rest = stream.rest()
    await factory.last.close()
    await inner.sessions.delete(client.sessionId)
    await pass(BOUND)
    expect(await Promise.race([rest, quiet().then(() => 'still open')])).toEqual([])
  })

  test('a restore that took longer than memory is believed is not trusted either', async () => {
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

  test('onSessionClosed is told `gone`, once', async () => {
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
      client.open({ id, method: 'tools/call' }).then(async (stream) => {
        begun.push(stream.status)
        await stream.leave()
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
    expect((await client.send({ method: 'GET' })).status).toBe(503)
    expect((await client.notify('notifications/roots/list_changed')).status).toBe(503)
    recover()
    expect((await client.request('ping')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
    expect(factory.last.closed).toBe(false)
  })

  test('when the expiry has to be refreshed: 503, then fine, with the same live instance', async () => {
    const { backend, factory, handler } = deaf({ idleTtl: MINUTE })
    const client = await openSession(handler)
    await pass(20 * SECOND)
    const recover = backend.calls.fail('sessions.touch')
    expect((await client.request('ping')).status).toBe(503)
    recover()
    expect((await client.request('ping')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
  })

  test('while a call runs: the call is not disturbed', async () => {
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

  test('by never answering: 503 after backendTimeout, and not one question for each request', async () => {
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
