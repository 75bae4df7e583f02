/** A live session can be dropped from memory at any time, and its client never knows. */
import { Server as ServerV1 } from '@modelcontextprotocol/sdk/server/index.js'
import { RootsListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'
import { Server as ServerV2 } from '@modelcontextprotocol/server'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { ServerFactory, ServerInstance } from '../../src/index.js'
import { createSessionHandler, type SessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import { deferred, FAKED, gated, quiet } from './gated-store.js'
import { type Script, type ScriptedServer, scripted, UNANSWERED } from './scripted-server.js'
import { type Answer, openSession, read, send } from './wire-client.js'

vi.setConfig({ testTimeout: 5000 })

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

/** Ends a node that restores again and again, which it would do without ever letting a timer run. */
function limit(restores: number) {
  return () => {
    if (restores-- <= 0) throw new Error('restored again and again')
  }
}

/** Answers each `tools/call` when the test says so. */
function calls() {
  const running: ReturnType<typeof deferred<Record<string, unknown>>>[] = []
  const script: Script = {
    'tools/call': () => {
      const answer = deferred<Record<string, unknown>>()
      running.push(answer)
      return answer.promise
    },
  }
  return { script, running }
}

describe('liveIdle', () => {
  test('a session is dropped after it, and restored by the next request', async () => {
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

  test('is measured from the end of the last activity: a call that ran for longer counts from its answer', async () => {
    const { script, running } = calls()
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

  test('each request begins it anew', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 10_000 }))
    for (let i = 0; i < 5; i++) {
      await pass(8_000)
      if (i % 2) await client.notify('notifications/roots/list_changed')
      else await client.request('ping')
    }
    expect(factory.servers).toHaveLength(1)
  })

  test('an open GET counts as activity until it ends', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 10_000 }))
    const stream = await client.get()
    await pass(120_000)
    expect(factory.last.closed).toBe(false)
    await factory.last.notify('notifications/message', { level: 'info', data: 1 })
    expect((await stream.next())?.message.params.data).toBe(1)
    await stream.cancel()
    // what is looked at now and then may be a quarter early
    await pass(7_000)
    expect(factory.last.closed).toBe(false)
    await pass(6_000)
    expect(factory.last.closed).toBe(true)
  })

  test('so does a call whose client has gone away, and its answer is kept', async () => {
    const { script, running } = calls()
    const factory = scripted(script)
    const client = await openSession(serve(factory, { liveIdle: 10_000, upgradeAfter: 0 }))
    const response = client.send('POST', { jsonrpc: '2.0', id: 9, method: 'tools/call', params: {} })
    await pass(10)
    const stream = (await response).body?.getReader()
    const priming = new TextDecoder().decode((await stream?.read())?.value)
    const cursor = /id: (.*)/.exec(priming)?.[1]
    await stream?.cancel()
    await pass(60_000)
    expect(factory.last.closed).toBe(false)
    running[0]?.resolve({ kept: true })
    await quiet()
    const resumed = await client.get(cursor)
    expect((await resumed.next())?.message).toMatchObject({ id: 9, result: { kept: true } })
  })

  test('so does a request of the server’s that the client has not answered', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory, { liveIdle: 10_000 }))
    const stream = await client.get()
    await factory.last.ask(0, 'roots/list')
    const asked = await stream.next()
    await stream.cancel()
    await pass(60_000)
    expect(factory.last.closed).toBe(false)
    expect((await client.respond(asked?.message.id, { roots: [] })).status).toBe(202)
    expect(factory.last.answers).toEqual([{ jsonrpc: '2.0', id: 0, result: { roots: [] } }])
    await pass(13_000)
    expect(factory.last.closed).toBe(true)
  })

  test('a request of the server’s that it gave up itself does not keep it for ever', async () => {
    const factory = scripted()
    await openSession(serve(factory, { liveIdle: 10_000 }))
    await factory.last.ask(0, 'roots/list')
    await pass(30_000)
    expect(factory.last.closed).toBe(false)
    await factory.last.notify('notifications/cancelled', { requestId: 0 })
    await pass(13_000)
    expect(factory.last.closed).toBe(true)
  })

  test('a request that the client cancelled does not keep it for ever', async () => {
    const factory = scripted({ 'tools/call': () => UNANSWERED })
    const client = await openSession(serve(factory, { liveIdle: 10_000, responseMode: 'json' }))
    const call = client.post({ jsonrpc: '2.0', id: 5, method: 'tools/call' })
    await quiet()
    await client.notify('notifications/cancelled', { requestId: 5 })
    await call
    await pass(13_000)
    expect(factory.last.closed).toBe(true)
  })

  test('infinite: never', async () => {
    const factory = scripted()
    await openSession(serve(factory, { liveIdle: Number.POSITIVE_INFINITY }))
    await pass(24 * 60 * 60_000)
    expect(factory.last.closed).toBe(false)
  })

  test('0: after each exchange, and nothing is different for the client', async () => {
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

  test('0: what only a notification, a response or a GET has restored goes too', async () => {
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
    await stream.cancel()
    await pass(500)
    expect(factory.last.closed).toBe(true)
  })
})

describe('maxLiveSessions', () => {
  test('over it the least recently used go first', async () => {
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

  test('a notification, or a stream that ended just now, is use too', async () => {
    const factory = scripted()
    const handler = serve(factory, { maxLiveSessions: 3 })
    const notified = await openSession(handler)
    const streamed = await openSession(handler)
    const stream = await streamed.get()
    await pass(1000)
    await openSession(handler)
    await pass(1000)
    await notified.notify('notifications/roots/list_changed')
    await stream.cancel()
    await pass(1000)
    await openSession(handler)
    const [a, b, c] = factory.servers as [ScriptedServer, ScriptedServer, ScriptedServer]
    expect([a.closed, b.closed, c.closed]).toEqual([false, false, true])
  })

  test('what is busy stays, if there were a thousand', async () => {
    const { script, running } = calls()
    const factory = scripted(script, limit(20))
    const handler = serve(factory, { maxLiveSessions: 1, responseMode: 'json' })
    const pending: Promise<Answer>[] = []
    for (let i = 0; i < 5; i++) {
      const client = await openSession(handler)
      pending.push(client.request('tools/call', { name: 'x' }))
      await quiet()
    }
    expect(running).toHaveLength(5)
    for (const call of running) call.resolve({ done: true })
    for (const call of pending) expect((await call).body.result).toEqual({ done: true })
    await quiet()
    expect((await handler.status()).liveSessions).toBeLessThanOrEqual(1)
  })

  test('reached by sessions that are all busy, a restore still works, and is one restore', async () => {
    const { script, running } = calls()
    const factory = scripted(script, limit(20))
    const handler = serve(factory, { maxLiveSessions: 1, responseMode: 'json' })
    const idle = await openSession(handler)
    const busy = await openSession(handler)
    const call = busy.request('tools/call', { name: 'x' })
    await quiet()
    const before = factory.servers.length
    expect((await idle.request('ping')).status).toBe(200)
    const stream = await idle.get()
    expect(stream.status).toBe(200)
    expect(factory.servers.length).toBeLessThanOrEqual(before + 2)
    running[0]?.resolve({})
    expect((await call).status).toBe(200)
  })

  test('a new session is not the one that is dropped for it', async () => {
    const { script } = calls()
    const factory = scripted(script, limit(20))
    const handler = serve(factory, { maxLiveSessions: 1, responseMode: 'json' })
    const busy = await openSession(handler)
    void busy.request('tools/call', { name: 'x' })
    await quiet()
    const fresh = await openSession(handler)
    expect((await fresh.request('ping')).status).toBe(200)
    expect(factory.servers.length).toBeLessThanOrEqual(4)
    await busy.delete()
  })
})

describe('nothing is lost by an eviction', () => {
  test('log level, subscriptions, client info, state: all as before', async () => {
    const factory = scripted({
      'tools/call': async (_, { context: { session } }) => ({
        visits: await session.state.update<number>('visits', (n = 0) => n + 1),
        client: session.clientInfo?.name,
        subscriptions: [...session.subscriptions],
      }),
    })
    const client = await openSession(serve(factory, { liveIdle: 0 }))
    await client.request('logging/setLevel', { level: 'warning' })
    await client.request('resources/subscribe', { uri: 'test://a' })
    await client.request('resources/subscribe', { uri: 'test://b' })
    await client.request('resources/unsubscribe', { uri: 'test://a' })
    for (const visits of [1, 2]) {
      const { body } = await client.request('tools/call', { name: 'x' })
      expect(body.result).toEqual({ visits, client: 'wire-client', subscriptions: ['test://b'] })
      expect(factory.last.methods).toEqual([
        'initialize',
        'notifications/initialized',
        'logging/setLevel',
        'resources/subscribe',
        'tools/call',
      ])
    }
  })

  test('an event that the log takes its time for is neither lost nor overtaken', async () => {
    const shared = gated()
    let said = 0
    const factory = scripted({
      'tools/call': async (_, server) => {
        void server.notify('notifications/message', { level: 'info', data: ++said })
        return {}
      },
    })
    const handler = serve(factory, { backend: shared, liveIdle: 0 })
    const client = await openSession(handler)
    const gate = shared.calls.hold('events.append')
    expect((await client.request('tools/call', { name: 'x' })).status).toBe(200)
    await gate.reached
    await quiet()
    expect((await client.request('tools/call', { name: 'x' })).status).toBe(200)
    await quiet()
    gate.open()
    const stream = await client.get()
    expect((await stream.next())?.message.params.data).toBe(1)
    expect((await stream.next())?.message.params.data).toBe(2)
  })

  test('an open stream goes on across an instance that ends by itself', async () => {
    const factory = scripted()
    const handler = serve(factory)
    const client = await openSession(handler)
    const stream = await client.get()
    await factory.last.notify('notifications/message', { level: 'info', data: 'one' })
    await factory.last.close()
    await client.request('ping')
    expect(factory.servers).toHaveLength(2)
    await factory.last.notify('notifications/message', { level: 'info', data: 'two' })
    expect((await stream.next())?.message.params.data).toBe('one')
    expect((await stream.next())?.message.params.data).toBe('two')
  })
})

describe('what a notification sets in motion', () => {
  test.each(['v1', 'v2'])('is not cut off by the eviction that follows it (%s)', async (line) => {
    const roots: unknown[] = []
    const build = (): ServerInstance => {
      if (line === 'v1') {
        const server = new ServerV1({ name: 's', version: '1' }, { capabilities: {} })
        server.setNotificationHandler(RootsListChangedNotificationSchema, async () => {
          roots.push(await server.listRoots().catch(String))
        })
        return server
      }
      const server = new ServerV2({ name: 's', version: '1' }, { capabilities: {} })
      server.setNotificationHandler('notifications/roots/list_changed', async () => {
        roots.push(await server.listRoots().catch(String))
      })
      return server
    }
    const client = await openSession(serve(build, { liveIdle: 0 }), { capabilities: { roots: { listChanged: true } } })
    expect((await client.notify('notifications/roots/list_changed')).status).toBe(202)
    await quiet()
    const stream = await client.get()
    const asked = await Promise.race([stream.next(), quiet().then(() => undefined)])
    expect(asked?.message.method).toBe('roots/list')
    expect((await client.respond(asked?.message.id, { roots: [{ uri: 'file:///a' }] })).status).toBe(202)
    await quiet()
    expect(roots).toMatchObject([{ roots: [{ uri: 'file:///a' }] }])
    await stream.cancel()
  })
})

describe('an eviction racing with a request', () => {
  /** Each tick of the event loop between a request's arrival and its delivery is tried as the moment of the eviction. */
  const TICKS = 40
  const WAYS = ['steady', 'unsteady']

  async function race(build: (factory: ReturnType<typeof scripted>) => ServerFactory, tick: number, way: string) {
    const { script, running } = calls()
    const factory = scripted({ ...script, slow: () => quiet().then(() => ({})) })
    const handler = serve(build(factory), { liveIdle: 0, responseMode: 'json' })
    const client = await openSession(handler)
    const first = client.request('tools/call', { name: 'x' })
    await quiet()
    // whose version is not given away by a header takes another way through the door
    const message = { jsonrpc: '2.0', id: 'second', method: 'slow' } as const
    const second =
      way === 'steady'
        ? client.post(message)
        : send(handler, 'POST', message, { sessionId: client.sessionId }).then(read)
    for (let i = 0; i < tick; i++) await undefined
    // its answer makes the session idle: with liveIdle 0, this evicts
    running[0]?.resolve({})
    const answers = await Promise.race([
      Promise.all([first, second]),
      quiet()
        .then(quiet)
        .then(quiet)
        .then(() => 'no answer' as const),
    ])
    await handler.close()
    return { factory, answers }
  }

  test.each(WAYS)('the request (%s) never reaches a closed instance, and is answered', async (way) => {
    for (let tick = 0; tick < TICKS; tick++) {
      const { factory, answers } = await race((factory) => factory, tick, way)
      expect(
        factory.servers.flatMap(({ afterClose }) => afterClose),
        `tick ${tick}`,
      ).toEqual([])
      expect(answers, `tick ${tick}`).toMatchObject([{ status: 200 }, { status: 200, body: { result: {} } }])
    }
  })

  test.each(WAYS)('nor (%s) one that is being closed', async (way) => {
    for (let tick = 0; tick < TICKS; tick++) {
      const { answers } = await race(
        (factory) => async (context) => {
          const server = await factory(context)
          const close = server.close.bind(server)
          // lets go of something of its own first, as a child process does
          server.close = async () => {
            await new Promise(setImmediate)
            await new Promise(setImmediate)
            await close()
          }
          return server
        },
        tick,
        way,
      )
      expect(answers, `tick ${tick}`).toMatchObject([{ status: 200 }, { status: 200, body: { result: {} } }])
    }
  })

  test('two requests that share a restore, and the first one’s answer evicts', async () => {
    const shared = memory()
    const client = await openSession(serve(scripted(), { backend: shared }))
    const factory = scripted()
    client.on(serve(factory, { backend: shared, liveIdle: 0 }))
    const both = Promise.all([client.request('ping'), client.request('tools/list')])
    const answers = await Promise.race([both, quiet().then(() => 'no answer')])
    expect(answers).toMatchObject([{ status: 200 }, { status: 200 }])
    expect(factory.servers.flatMap(({ afterClose }) => afterClose)).toEqual([])
  })

  test('a notification is accepted only by an instance that has it', async () => {
    for (let tick = 0; tick < TICKS; tick++) {
      const { script, running } = calls()
      const factory = scripted(script)
      const client = await openSession(serve(factory, { liveIdle: 0, responseMode: 'json' }))
      const first = client.request('tools/call', { name: 'x' })
      await quiet()
      const notified = client.notify('notifications/roots/list_changed')
      for (let i = 0; i < tick; i++) await undefined
      running[0]?.resolve({})
      await first
      expect((await notified).status).toBe(202)
      const open = factory.servers.flatMap(({ received, afterClose }) =>
        received.filter(({ message }) => !afterClose.includes(message)).map(({ message }) => message),
      )
      expect(open, `tick ${tick}`).toContainEqual({ jsonrpc: '2.0', method: 'notifications/roots/list_changed' })
      await Promise.all(handlers.splice(0).map((handler) => handler.close()))
    }
  })

  test('by the sweep, while the request waits for the store to say that the session is still there', async () => {
    const shared = gated()
    const factory = scripted()
    const handler = serve(factory, { backend: shared, liveIdle: 20_000, backendTimeout: 60_000 })
    const client = await openSession(handler)
    await pass(19_000)
    const gate = shared.calls.hold('sessions.load')
    const request = client.request('ping')
    await gate.reached
    await pass(10_000)
    gate.open()
    expect((await request).status).toBe(200)
    expect(factory.servers.flatMap(({ afterClose }) => afterClose)).toEqual([])
  })

  test('by a DELETE: gone, not unanswered', async () => {
    for (let tick = 0; tick < TICKS; tick++) {
      const factory = scripted()
      const handler = serve(factory)
      const client = await openSession(handler)
      const deleted = client.delete()
      for (let i = 0; i < tick; i++) await undefined
      const request = client.request('ping')
      await quiet()
      const answer = await Promise.race([request, quiet().then(() => 'no answer' as const)])
      expect(answer, `tick ${tick}`).toHaveProperty('status')
      if (answer !== 'no answer') expect([200, 404]).toContain(answer.status)
      expect((await deleted).status).toBe(200)
      expect(factory.last.afterClose, `tick ${tick}`).toEqual([])
    }
  })
})

test('an instance that ends in the middle of a call ends the call with an error, and the next one is restored', async () => {
  const factory = scripted({ 'tools/call': () => UNANSWERED })
  const client = await openSession(serve(factory, { responseMode: 'json' }))
  const call = client.request('tools/call', { name: 'x' })
  await quiet()
  await factory.last.close()
  const { status, body } = await call
  expect(status).toBe(200)
  expect(body.error.data.reason).toBe('outcome-unknown')
  expect((await client.request('ping')).status).toBe(200)
  expect(factory.servers).toHaveLength(2)
})
