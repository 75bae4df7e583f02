/** Memory follows work: which live sessions a node drops from its memory, and which it keeps (invariant 9). */
import { beforeEach, describe, expect, test } from 'vitest'
import { type ScriptedServer, scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'
import { callsByHand } from './calls-by-hand.js'

let pass: ReturnType<typeof fakeTime>
beforeEach(() => {
  pass = fakeTime()
})

describe('liveIdle', () => {
  test('an idle live session is dropped after it, and restored by the next request', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 10_000 }))
    await pass(9_000)
    expect(factory.last.closed).toBe(false)
    await pass(4_000)
    expect(factory.last.closed).toBe(true)
    expect((await client.request('tools/list')).status).toBe(200)
    expect(factory.servers).toHaveLength(2)
    expect(factory.last.context.restored).toBe(true)
  })

  test('counts from the end of the last activity: for a call that ran longer, from its answer', async () => {
    const { script, running } = callsByHand()
    const factory = scripted(script)
    const client = await openSession(serve(factory, { liveIdle: 10_000, responseMode: 'json' }))
    const call = client.request('tools/call', { name: 'long' })
    await quiet()
    await pass(60_000)
    expect(factory.last.closed).toBe(false)
    running[0]?.resolve({})
    expect((await call).status).toBe(200)
    await pass(9_000)
    expect(factory.last.closed).toBe(false)
    await pass(4_000)
    expect(factory.last.closed).toBe(true)
  })

  test('begins anew with each request and notification', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 10_000 }))
    for (let i = 0; i < 5; i++) {
      await pass(8_000)
      if (i % 2) await client.notify('notifications/roots/list_changed')
      else await client.request('ping')
    }
    expect(factory.servers).toHaveLength(1)
  })

  test('does not run while a GET is open', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 10_000 }))
    const stream = await client.get()
    await pass(120_000)
    expect(factory.last.closed).toBe(false)
    await factory.last.say(1)
    expect((await stream.next())?.message.params.data).toBe(1)
    await stream.leave()
    // what is looked at now and then may be a quarter early
    await pass(7_000)
    expect(factory.last.closed).toBe(false)
    await pass(6_000)
    expect(factory.last.closed).toBe(true)
  })

  test('does not run while a call does whose client has gone away, and the answer is kept', async () => {
    const { script, running } = callsByHand()
    const factory = scripted(script)
    const client = await openSession(serve(factory, { liveIdle: 10_000, upgradeAfter: 0 }))
    const answer = client.open({ id: 9, method: 'tools/call', params: {} })
    await pass(10)
    const stream = await answer
    const primed = await stream.block()
    await stream.leave()
    await pass(60_000)
    expect(factory.last.closed).toBe(false)
    running[0]?.resolve({ kept: true })
    await quiet()
    const resumed = await client.get(primed?.id)
    expect((await resumed.next())?.message).toMatchObject({ id: 9, result: { kept: true } })
  })

  test('does not run while the client has not answered a request of the server’s', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 10_000 }))
    const stream = await client.get()
    await factory.last.ask(0, 'roots/list')
    const asked = await stream.next()
    await stream.leave()
    await pass(60_000)
    expect(factory.last.closed).toBe(false)
    expect((await client.respond(asked?.message.id, { roots: [] })).status).toBe(202)
    expect(factory.last.answers).toEqual([{ jsonrpc: '2.0', id: 0, result: { roots: [] } }])
    await pass(13_000)
    expect(factory.last.closed).toBe(true)
  })

  test('runs again when the server has given up what it asked', async () => {
    const factory = scripted()
    await openSession(serve(factory, { liveIdle: 10_000 }))
    await factory.last.ask(0, 'roots/list')
    await pass(30_000)
    expect(factory.last.closed).toBe(false)
    await factory.last.notify('notifications/cancelled', { requestId: 0 })
    await pass(13_000)
    expect(factory.last.closed).toBe(true)
  })

  test('runs again when the client has cancelled what it asked', async () => {
    const factory = scripted({ 'tools/call': () => UNANSWERED })
    const client = await openSession(serve(factory, { liveIdle: 10_000, responseMode: 'json' }))
    const call = client.post({ id: 5, method: 'tools/call' })
    await quiet()
    await client.notify('notifications/cancelled', { requestId: 5 })
    await call
    await pass(13_000)
    expect(factory.last.closed).toBe(true)
  })

  test('of infinity: nothing is ever dropped', async () => {
    const factory = scripted()
    await openSession(serve(factory, { liveIdle: Number.POSITIVE_INFINITY }))
    await pass(24 * 60 * 60_000)
    expect(factory.last.closed).toBe(false)
  })

  test('of 0: a session is dropped after each exchange, and nothing is different for the client', async () => {
    const factory = scripted({
      'tools/call': (_, { context }) => ({ restored: context.restored }),
    })
    const client = await openSession(serve(factory, { liveIdle: 0 }))
    for (let i = 0; i < 3; i++) {
      const { status, body } = await client.request('tools/call', { name: 'x' })
      expect(status).toBe(200)
      if (i > 0) expect(body.result.restored).toBe(true)
      await quiet()
      expect(factory.servers.every(({ closed }) => closed)).toBe(true)
    }
    expect(factory.servers.flatMap(({ afterClose }) => afterClose)).toEqual([])
  })

  test('of 0: what only a notification, a response or a GET has restored is dropped, too', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 0 }))
    await client.notify('notifications/roots/list_changed')
    await pass(500)
    expect(factory.last.closed).toBe(true)
    expect((await client.respond('nobody asked')).status).toBe(400)
    await pass(500)
    expect(factory.last.closed).toBe(true)
    const stream = await client.get()
    await pass(500)
    expect(factory.last.closed).toBe(false)
    await stream.leave()
    await pass(500)
    expect(factory.last.closed).toBe(true)
  })
})

describe('maxLiveSessions', () => {
  test('the least recently used go first when there are more', async () => {
    const factory = scripted()
    const handler = serve(factory, { maxLiveSessions: 3 })
    const clients = []
    for (let i = 0; i < 3; i++) clients.push(await openSession(handler))
    const [a, b, c] = factory.servers as [ScriptedServer, ScriptedServer, ScriptedServer]
    await clients[0]?.request('ping')
    await openSession(handler)
    expect([a.closed, b.closed, c.closed]).toEqual([false, true, false])
    await openSession(handler)
    expect([a.closed, c.closed]).toEqual([false, true])
    // and who was dropped comes back, at the cost of the next one
    expect((await clients[1]?.request('ping'))?.status).toBe(200)
    expect(a.closed).toBe(true)
    expect((await handler.status()).liveSessions).toBe(3)
  })

  test('a notification, or a stream that has just ended, is use, too', async () => {
    const factory = scripted()
    const handler = serve(factory, { maxLiveSessions: 3 })
    const notified = await openSession(handler)
    const streamed = await openSession(handler)
    const stream = await streamed.get()
    await pass(1000)
    await openSession(handler)
    await pass(1000)
    await notified.notify('notifications/roots/list_changed')
    await stream.leave()
    await pass(1000)
    await openSession(handler)
    const [a, b, c] = factory.servers as [ScriptedServer, ScriptedServer, ScriptedServer]
    expect([a.closed, b.closed, c.closed]).toEqual([false, false, true])
  })
})
