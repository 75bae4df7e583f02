/** What went wrong in the systems this one learned from, and what a reviewer could think of besides: none of it happens here. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { FetchHttpReply } from '../../src/http/fetch.js'
import type { ServerFactory } from '../../src/index.js'
import { createSessionHandler, type SessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import { deferred, FAKED, type GatedBackend, gated, quiet } from './gated-store.js'
import { handshake, type Script, scripted, UNANSWERED } from './scripted-server.js'
import { authOf, initialize, openSession, read, send, WireClient } from './wire-client.js'

vi.setConfig({ testTimeout: 5000 })

const handlers: SessionHandler[] = []
afterEach(async () => {
  vi.useRealTimers()
  vi.restoreAllMocks()
  await Promise.all(handlers.splice(0).map((handler) => handler.close()))
})

function serve(factory: ServerFactory, options: SessionHandlerOptions = {}): SessionHandler {
  const handler = createSessionHandler(factory, options)
  handlers.push(handler)
  return handler
}

/** A session in a store, and a node that has never seen it. */
async function stored(options: { backend?: GatedBackend } = {}) {
  const shared = options.backend ?? gated()
  const origin = serve(scripted(), { backend: shared })
  const client = await openSession(origin)
  shared.calls.reset()
  return { shared, origin, client, id: client.sessionId }
}

describe('one restore at a time', () => {
  test('two requests at once: one factory call, both answered', async () => {
    const { shared, client } = await stored()
    const built = deferred()
    const factory = scripted({}, () => built.promise)
    client.on(serve(factory, { backend: shared }))
    const answers = [client.request('tools/list'), client.request('tools/list'), client.request('ping')]
    await quiet()
    built.resolve()
    for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200)
    expect(factory.servers).toHaveLength(1)
    expect(shared.calls.count('sessions.load')).toBeLessThanOrEqual(2)
  })

  test('none sees a half-replayed server, whatever it is that the replay waits for', async () => {
    const { shared, client } = await stored()
    await client.request('logging/setLevel', { level: 'debug' })
    await client.request('resources/subscribe', { uri: 'test://a' })
    for (const held of ['initialize', 'logging/setLevel', 'resources/subscribe']) {
      const replayed = deferred()
      const factory = scripted({
        [held]: async (request) => {
          await replayed.promise
          return request.method === 'initialize' ? handshake(request) : {}
        },
      })
      client.on(serve(factory, { backend: shared }))
      const first = client.request('tools/list')
      await vi.waitFor(() => expect(factory.last?.methods).toContain(held))
      const racing = client.request('tools/call', { name: 'x' })
      await quiet()
      expect(factory.last.methods).not.toContain('tools/list')
      expect(factory.last.methods).not.toContain('tools/call')
      replayed.resolve()
      expect((await first).status).toBe(200)
      expect((await racing).status).toBe(200)
      expect(factory.servers).toHaveLength(1)
      expect(factory.last.methods.slice(0, 4)).toEqual([
        'initialize',
        'notifications/initialized',
        'logging/setLevel',
        'resources/subscribe',
      ])
    }
  })

  test('a request that comes while the hook after the replay runs waits too', async () => {
    const { shared, client } = await stored()
    const hooked = deferred()
    const factory = scripted()
    const handler = serve(factory, { backend: shared, onSessionRestored: () => hooked.promise })
    client.on(handler)
    const first = client.request('tools/list')
    await vi.waitFor(() => expect(factory.last?.methods).toContain('notifications/initialized'))
    const second = client.request('tools/list')
    await quiet()
    expect(factory.last.methods).not.toContain('tools/list')
    hooked.resolve()
    expect([(await first).status, (await second).status]).toEqual([200, 200])
    expect(factory.servers).toHaveLength(1)
  })

  test('a request of another principal does not share the outcome', async () => {
    const shared = gated()
    const owner = await openSession(serve(scripted(), { backend: shared }), { authInfo: authOf('alice') })
    const built = deferred()
    const factory = scripted({}, () => built.promise)
    owner.on(serve(factory, { backend: shared }))
    const mine = owner.request('tools/list')
    const theirs = owner.request('tools/list', {}, { authInfo: authOf('mallory') })
    expect((await theirs).status).toBe(404)
    built.resolve()
    expect((await mine).status).toBe(200)
  })
})

describe('the store fails at load', () => {
  test('503 with Retry-After for all who wait, and fine when it recovers', async () => {
    const { shared, client } = await stored()
    const factory = scripted()
    client.on(serve(factory, { backend: shared }))
    const gate = shared.calls.hold('sessions.load')
    const waiting = [
      client.request('tools/list'),
      client.request('tools/list'),
      client.send('GET', undefined).then(read),
      client.respond('whatever'),
      client.notify('notifications/roots/list_changed'),
    ]
    await gate.reached
    await quiet()
    gate.fail(new Error('secret connection string'))
    for (const answer of await Promise.all(waiting)) {
      expect(answer.status).toBe(503)
      expect(answer.retryAfter).toMatch(/^\d+$/)
      expect(answer.body.error.code).toBe(-32603)
      expect(JSON.stringify(answer.body)).not.toContain('secret')
    }
    expect((await client.request('tools/list')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
  })

  test('also when it fails at the second look, after the node has begun to listen', async () => {
    const { shared, client } = await stored()
    const factory = scripted()
    client.on(serve(factory, { backend: shared }))
    const joined = shared.calls.hold('bus.subscribe')
    const waiting = [client.request('tools/list'), client.request('tools/list')]
    await joined.reached
    const recover = shared.calls.fail('sessions.load')
    joined.open()
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(503)
    expect(factory.servers).toHaveLength(0)
    recover()
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('also when the bus fails', async () => {
    const { shared, client } = await stored()
    const factory = scripted()
    client.on(serve(factory, { backend: shared }))
    const recover = shared.calls.fail('bus.subscribe')
    const [one, two] = await Promise.all([client.request('tools/list'), client.request('tools/list')])
    expect([one.status, two.status]).toEqual([503, 503])
    recover()
    expect((await client.request('tools/list')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
  })

  test('a store that never answers is a store that fails', async () => {
    const { shared, client } = await stored()
    vi.useFakeTimers({ toFake: FAKED })
    client.on(serve(scripted(), { backend: shared, backendTimeout: 700 }))
    const gate = shared.calls.hold('sessions.load')
    const waiting = [client.request('tools/list'), client.delete()]
    await gate.reached
    shared.calls.hold('sessions.load')
    await vi.advanceTimersByTimeAsync(701)
    const [asked] = await Promise.all(waiting)
    expect(asked?.status).toBe(503)
  })
})

describe('initialize', () => {
  test('the store fails: no id given out, nothing left, the server closed', async () => {
    const shared = gated()
    const factory = scripted()
    const handler = serve(factory, { backend: shared })
    const recover = shared.calls.fail('sessions.create')
    const answer = await initialize(handler)
    expect(answer.status).toBe(503)
    expect(answer.retryAfter).toBeDefined()
    expect(answer.sessionId).toBeUndefined()
    expect(answer.body).toMatchObject({ id: 'init', error: { code: -32603 } })
    expect(factory.last.closed).toBe(true)
    expect(await list(handler)).toEqual([])
    recover()
    expect((await initialize(handler)).status).toBe(200)
  })

  test('the store stores and says so too late: the record does not stay', async () => {
    const shared = gated()
    const factory = scripted()
    const handler = serve(factory, { backend: shared })
    const gate = shared.calls.holdAnswer('sessions.create')
    const answer = initialize(handler)
    await gate.reached
    gate.fail()
    expect((await answer).status).toBe(503)
    await quiet()
    expect(await list(handler)).toEqual([])
    expect(factory.last.closed).toBe(true)
  })

  test('a create that timed out and comes through later leaves nothing either', async () => {
    const shared = gated()
    vi.useFakeTimers({ toFake: FAKED })
    const handler = serve(scripted(), { backend: shared, backendTimeout: 500 })
    const gate = shared.calls.hold('sessions.create')
    const answer = initialize(handler)
    await gate.reached
    await vi.advanceTimersByTimeAsync(501)
    expect((await answer).status).toBe(503)
    await quiet()
    gate.open()
    await quiet()
    expect(await list(handler)).toEqual([])
  })

  test('the store refuses: no id given out, the server closed, whoever has the id undisturbed', async () => {
    const shared = gated()
    const factory = scripted()
    const handler = serve(factory, { backend: shared, sessionIdGenerator: () => 'always-the-same' })
    const first = await openSession(handler, { authInfo: authOf('alice') })
    const answer = await initialize(handler, { authInfo: authOf('bob') })
    expect(answer.status).toBeGreaterThanOrEqual(500)
    expect(answer.sessionId).toBeUndefined()
    expect(factory.last.closed).toBe(true)
    expect((await first.request('tools/list')).status).toBe(200)
    expect(factory.servers[0]?.closed).toBe(false)
    await quiet()
    expect(await list(handler)).toEqual(['always-the-same'])
  })

  test('what a server says during a handshake that comes to nothing is not kept, and reaches nobody', async () => {
    const shared = gated()
    let secret = 'of alice'
    const factory = scripted({
      initialize: (request, server) => {
        void server.notify('notifications/message', { level: 'info', data: secret })
        return handshake(request)
      },
    })
    const handler = serve(factory, { backend: shared, sessionIdGenerator: () => 'always-the-same' })
    const alice = await openSession(handler, { authInfo: authOf('alice') })
    secret = 'of bob'
    expect((await initialize(handler, { authInfo: authOf('bob') })).status).toBeGreaterThanOrEqual(500)
    await quiet()
    const stream = await alice.get()
    const seen: string[] = []
    const reading = (async () => {
      for await (const { message } of stream) seen.push(message.params.data)
    })()
    await quiet()
    await stream.cancel()
    await reading
    expect(seen).not.toContain('of bob')
  })

  test('the server answers with an error: answered as it is, nothing stored, no id', async () => {
    const shared = gated()
    const onSessionInitialized = vi.fn()
    const factory = scripted({
      initialize: () => {
        throw new Error('this version is not spoken here')
      },
    })
    const handler = serve(factory, { backend: shared, onSessionInitialized })
    const answer = await initialize(handler)
    expect(answer.status).toBe(200)
    expect(answer.sessionId).toBeUndefined()
    expect(answer.body).toMatchObject({ id: 'init', error: { message: /not spoken here/ } })
    expect(shared.calls.count('sessions.create')).toBe(0)
    expect(onSessionInitialized).not.toHaveBeenCalled()
    expect(factory.last.closed).toBe(true)
    await quiet()
    expect(await list(handler)).toEqual([])
  })

  const thrown = new Error('secret of the factory')
  const failing: Record<string, { before?: () => never; connect?: boolean; hook?: boolean }> = {
    'the factory throws': {
      before: () => {
        throw thrown
      },
    },
    'connect throws': { connect: true },
    'the hook throws': { hook: true },
  }

  test.each(Object.entries(failing))('%s: 500, nothing left, and the next one works', async (_, where) => {
    const shared = gated()
    let broken = true
    const factory = scripted({}, () => {
      if (broken) where.before?.()
    })
    const onerror = vi.fn()
    const handler = serve(
      (context) => {
        const server = factory(context) as ReturnType<typeof factory> & { connect(): Promise<void> }
        if (where.connect && broken) server.connect = () => Promise.reject(thrown)
        return server
      },
      {
        backend: shared,
        onerror,
        onSessionInitialized: () => {
          if (where.hook && broken) throw thrown
        },
      },
    )
    const answer = await initialize(handler)
    expect(answer.status).toBe(500)
    expect(answer.sessionId).toBeUndefined()
    expect(JSON.stringify(answer.body)).not.toContain('secret')
    expect(onerror).toHaveBeenCalledWith(thrown)
    if (!where.before) expect(factory.last.closed).toBe(true)
    await quiet()
    expect(await list(handler)).toEqual([])
    broken = false
    const client = await openSession(handler)
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('a session that is deleted before its id is given out is never served', async () => {
    const shared = gated()
    const factory = scripted()
    const handler = serve(factory, {
      backend: shared,
      // as a host does that allows so many sessions and no more
      onSessionInitialized: async (session) => {
        await handler.sessions.delete(session.id)
      },
    })
    const answer = await initialize(handler)
    await quiet()
    if (answer.sessionId !== undefined) {
      const client = new WireClient(handler, answer.sessionId)
      expect((await client.request('tools/list')).status).toBe(404)
    }
    expect(factory.last.closed).toBe(true)
    expect(factory.last.methods).not.toContain('tools/list')
  })

  test('closing the handler meanwhile leaves no server behind', async () => {
    const built = deferred()
    const factory = scripted({}, () => built.promise)
    const handler = serve(factory)
    const answer = initialize(handler)
    await quiet()
    await handler.close()
    built.resolve()
    await answer
    await quiet()
    for (const server of factory.servers) expect(server.closed).toBe(true)
  })
})

describe('a restore fails', () => {
  const thrown = new Error('secret of the restore')
  const at: Record<string, (script: Script) => Script> = {
    'the factory': (script) => script,
    connect: (script) => script,
    'the answer to initialize': () => ({
      initialize: () => {
        throw thrown
      },
    }),
    'the hook': (script) => script,
  }

  test.each(Object.entries(at))('in %s: no zombie, and the next request works', async (where, make) => {
    const { shared, client } = await stored()
    let broken = true
    const bad = make({})
    const good = scripted()
    const worse = scripted(bad, () => {
      if (where === 'the factory') throw thrown
    })
    const handler = serve(
      (context) => {
        if (!broken) return good(context)
        const server = worse(context)
        if (where === 'connect') Object.assign(server, { connect: () => Promise.reject(thrown) })
        return server
      },
      {
        backend: shared,
        onSessionRestored: () => {
          if (where === 'the hook' && broken) throw thrown
        },
      },
    )
    client.on(handler)
    const [one, two] = await Promise.all([client.request('tools/list'), client.request('tools/list')])
    for (const answer of [one, two]) {
      expect(answer.status).toBe(500)
      expect(JSON.stringify(answer.body)).not.toContain('secret')
    }
    for (const server of worse.servers) expect(server.closed).toBe(true)
    expect(worse.servers.length).toBeLessThanOrEqual(1)
    broken = false
    expect((await client.request('tools/list')).status).toBe(200)
    expect(good.servers).toHaveLength(1)
  })

  test('the server negotiates another version than before: an error, not a session of two minds', async () => {
    const { shared, client } = await stored()
    let version: string | undefined = '2025-06-18'
    const factory = scripted({ initialize: (request) => handshake(request, version) })
    client.on(serve(factory, { backend: shared }))
    const answer = await client.request('tools/list')
    expect(answer.status).toBe(500)
    expect(factory.last.closed).toBe(true)
    expect(factory.last.methods).toEqual(['initialize'])
    version = undefined
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('the server dies during its replay', async () => {
    const { shared, client } = await stored()
    let dying = true
    const factory = scripted({
      initialize: (request, server) => {
        if (!dying) return handshake(request)
        void server.close()
        return UNANSWERED
      },
    })
    client.on(serve(factory, { backend: shared }))
    expect((await client.request('tools/list')).status).toBe(500)
    dying = false
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('the server dies at the very moment when it is published: the request is answered by another one', async () => {
    for (let tick = 0; tick < 20; tick++) {
      const { shared, client } = await stored()
      const came = deferred()
      const go = deferred()
      let restores = 0
      const factory = scripted({}, () => {
        if (++restores > 10) throw new Error('restored again and again')
      })
      const handler = serve(factory, {
        backend: shared,
        onSessionRestored: () => {
          came.resolve()
          return go.promise
        },
      })
      const racing = client.on(handler).request('ping')
      await came.promise
      const dying = factory.last
      go.resolve()
      for (let i = 0; i < tick; i++) await undefined
      void dying.close()
      const answer = await racing
      expect([200, 500, 503], `tick ${tick}`).toContain(answer.status)
      expect((await client.request('tools/list')).status, `tick ${tick}`).toBe(200)
      expect(
        factory.servers.flatMap(({ afterClose }) => afterClose),
        `tick ${tick}`,
      ).toEqual([])
      await Promise.all(handlers.splice(0).map((handler) => handler.close()))
    }
  })

  test('a server whose close fails is no obstacle', async () => {
    const { shared, client } = await stored()
    let broken = true
    const factory = scripted()
    const handler = serve(
      (context) => {
        const server = factory(context)
        if (broken) Object.assign(server, { close: () => Promise.reject(new Error('cannot close')) })
        return server
      },
      {
        backend: shared,
        onSessionRestored: () => {
          if (broken) throw new Error('not now')
        },
      },
    )
    client.on(handler)
    expect((await client.request('tools/list')).status).toBe(500)
    broken = false
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('closing the handler meanwhile leaves no server behind', async () => {
    const { shared, client } = await stored()
    const built = deferred()
    const factory = scripted({}, () => built.promise)
    const handler = serve(factory, { backend: shared })
    client.on(handler)
    const answer = client.request('tools/list')
    await quiet()
    await handler.close()
    built.resolve()
    await answer
    await quiet()
    for (const server of factory.servers) expect(server.closed).toBe(true)
  })
})

describe('DELETE during a restore', () => {
  /** Where the restoring request is held up, and how it goes on. */
  const phases: Record<string, (backend: GatedBackend) => { script?: Script; wait: Promise<unknown>; go(): void }> = {
    'before the record is loaded': ({ calls }) => {
      const gate = calls.hold('sessions.load')
      return { wait: gate.reached, go: () => gate.open() }
    },
    'after the record is loaded': ({ calls }) => {
      const gate = calls.holdAnswer('sessions.load')
      return { wait: gate.reached, go: () => gate.open() }
    },
    'while the node begins to listen': ({ calls }) => {
      const gate = calls.hold('bus.subscribe')
      return { wait: gate.reached, go: () => gate.open() }
    },
    'in the replay': () => {
      const came = deferred()
      const gate = deferred()
      return {
        script: {
          initialize: async (request) => {
            came.resolve()
            await gate.promise
            return handshake(request)
          },
        },
        wait: came.promise,
        go: gate.resolve,
      }
    },
  }

  const outcome = async (
    racing: Promise<{ status: number }>,
    factory: ReturnType<typeof scripted>,
    wire: WireClient,
  ) => {
    expect((await racing).status).toBe(404)
    await quiet()
    for (const server of factory.servers) {
      expect(server.closed).toBe(true)
      expect(server.methods).not.toContain('tools/list')
    }
    const built = factory.servers.length
    expect((await wire.request('tools/list')).status).toBe(404)
    expect(factory.servers).toHaveLength(built)
  }

  for (const who of ['this node', 'another node', 'another node, whose message is lost'] as const) {
    test.each(Object.entries(phases))(`by ${who}, %s`, async (_, phase) => {
      const inner = memory()
      const { client } = await stored({ backend: gated(inner) })
      const backend = gated(inner)
      const { script, wait, go } = phase(backend)
      const factory = scripted(script)
      const here = serve(factory, { backend })
      const there = serve(scripted(), {
        backend: gated(who.endsWith('lost') ? { ...inner, bus: memory().bus! } : inner),
      })
      const racing = new WireClient(here, client.sessionId).request('tools/list')
      await wait
      const deleted = client.on(who === 'this node' ? here : there).delete()
      await quiet()
      go()
      expect((await deleted).status).toBe(200)
      if (who.endsWith('lost') && script) return // bounded by staleness: see staleness.test.ts
      await outcome(racing, factory, client.on(here))
    })

    for (const held of ['factory', 'hook'] as const) {
      test(`by ${who}, in the ${held === 'hook' ? 'onSessionRestored' : held}`, async () => {
        if (who.endsWith('lost')) return
        const inner = memory()
        const { client } = await stored({ backend: gated(inner) })
        const came = deferred()
        const gate = deferred()
        const wait = async () => {
          came.resolve()
          await gate.promise
        }
        const factory = scripted({}, () => (held === 'factory' ? wait() : undefined))
        const here = serve(factory, {
          backend: gated(inner),
          onSessionRestored: () => (held === 'hook' ? wait() : undefined),
        })
        const there = serve(scripted(), { backend: gated(inner) })
        const racing = new WireClient(here, client.sessionId).request('tools/list')
        await came.promise
        expect((await client.on(who === 'this node' ? here : there).delete()).status).toBe(200)
        await quiet()
        gate.resolve()
        await outcome(racing, factory, client.on(here))
      })
    }
  }

  /** Every tick of the event loop around the moment when the session is published is tried. */
  const TICKS = 40

  test('at the very moment when it is published', async () => {
    for (let tick = 0; tick < TICKS; tick++) {
      const { shared, client } = await stored()
      const came = deferred()
      const go = deferred()
      const factory = scripted()
      const handler = serve(factory, {
        backend: shared,
        onSessionRestored: () => {
          came.resolve()
          return go.promise
        },
      })
      const racing = client.on(handler).request('ping')
      await came.promise
      const deleted = handler.sessions.delete(client.sessionId)
      for (let i = 0; i < tick; i++) await undefined
      go.resolve()
      expect(await deleted).toBe(true)
      expect([200, 404], `tick ${tick}`).toContain((await racing).status)
      expect((await client.request('tools/list')).status, `tick ${tick}`).toBe(404)
      expect(factory.last.closed, `tick ${tick}`).toBe(true)
      await Promise.all(handlers.splice(0).map((handler) => handler.close()))
    }
  })

  test('of a session that is only just being initialized, at any moment', async () => {
    for (let tick = 0; tick < TICKS; tick++) {
      const go = deferred()
      const hooked = deferred<string>()
      const factory = scripted()
      const handler = serve(factory, {
        onSessionInitialized: ({ id }) => {
          hooked.resolve(id)
          return go.promise
        },
      })
      const answer = initialize(handler)
      const id = await hooked.promise
      const deleted = handler.sessions.delete(id)
      for (let i = 0; i < tick; i++) await undefined
      go.resolve()
      expect(await deleted).toBe(true)
      await answer
      expect((await new WireClient(handler, id).request('tools/list')).status, `tick ${tick}`).toBe(404)
      expect(factory.last.closed, `tick ${tick}`).toBe(true)
      await handler.close()
    }
  })

  test('a record that comes back from the dead by no fault of ours is refused: a late update changes nothing', async () => {
    const { shared, client } = await stored()
    const factory = scripted()
    const handler = serve(factory, { backend: shared })
    client.on(handler)
    await client.request('ping')
    const gate = shared.calls.hold('sessions.update')
    const late = client.request('resources/subscribe', { uri: 'test://late' })
    await gate.reached
    expect((await client.delete()).status).toBe(200)
    gate.open()
    expect((await late).status).toBe(404)
    await quiet()
    expect(await list(handler)).toEqual([])
    expect((await client.request('ping')).status).toBe(404)
  })
})

describe('DELETE', () => {
  test('aborts what runs, ends what streams, without a response', async () => {
    const factory = scripted({ 'tools/call': () => UNANSWERED })
    const handler = serve(factory, { upgradeAfter: 0 })
    const client = await openSession(handler)
    const standalone = await client.get()
    const running = await client.send('POST', { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'x' } })
    expect((await client.delete()).status).toBe(200)
    expect((await read(running)).events).toEqual([])
    expect(await standalone.rest()).toEqual([])
    expect(factory.last.closed).toBe(true)
  })

  test.each(['throws', 'never ends'])('is final even if the server’s close %s', async (how) => {
    const factory = scripted({ 'tools/call': () => UNANSWERED })
    const onSessionClosed = vi.fn()
    const shared = gated()
    const handler = createSessionHandler(
      (context) =>
        Object.assign(factory(context) as object, {
          close: () => (how === 'throws' ? Promise.reject(new Error('no')) : UNANSWERED),
        }) as never,
      { backend: shared, upgradeAfter: 0, onSessionClosed },
    )
    const client = await openSession(handler)
    const standalone = await client.get()
    const running = await client.send('POST', { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'x' } })
    const deleted = client.delete()
    expect((await read(running)).events).toEqual([])
    expect(await standalone.rest()).toEqual([])
    expect(await list(handler)).toEqual([])
    expect((await deleted).status).toBe(200)
    expect(onSessionClosed).toHaveBeenCalledOnce()
    expect((await client.request('tools/list')).status).toBe(404)
  })

  test('ends a stream that is followed here while no instance lives here', async () => {
    const inner = memory()
    const factory = scripted()
    const here = serve(factory, { backend: gated(inner) })
    const there = serve(scripted(), { backend: gated(inner) })
    const client = await openSession(here)
    const stream = await client.get()
    // a child process that died, say
    await factory.last.close()
    expect((await client.on(there).delete()).status).toBe(200)
    expect(await stream.rest()).toEqual([])
  })

  test('by another node ends a stream that is just being opened here', async () => {
    vi.useFakeTimers({ toFake: FAKED })
    const inner = memory()
    const backend = gated(inner)
    const far = gated(inner)
    const here = serve(scripted(), { backend })
    const there = serve(scripted(), { backend: far })
    const client = await openSession(here)
    const attached = backend.calls.holdAnswer('events.attach')
    const opening = client.send('GET', undefined)
    await attached.reached
    const clearing = far.calls.hold('events.delete')
    const deleted = new WireClient(there, client.sessionId).delete()
    await clearing.reached
    await quiet()
    attached.open()
    const response = await opening
    clearing.open()
    expect((await deleted).status).toBe(200)
    const reading = read(response)
    await vi.advanceTimersByTimeAsync(5000)
    const answer = await reading
    expect(answer.events).toEqual([])
    if (answer.status !== 200) expect(answer.status).toBe(404)
  })
})

describe('event ids', () => {
  test('after a restore never collide with earlier ones', async () => {
    const { shared } = await stored()
    const script: Script = {
      'tools/call': async (request, server) => {
        await server.notify('notifications/progress', { progress: 1, progressToken: 1 }, request.id)
        await server.notify('notifications/message', { level: 'info', data: 'aside' })
        return { content: [] }
      },
    }
    const ids: (string | undefined)[] = []
    let client: WireClient | undefined
    for (let node = 0; node < 4; node++) {
      const handler = serve(scripted(script), { backend: shared })
      client = client ? client.on(handler) : await openSession(handler)
      const standalone = await client.get()
      const answer = await client.post({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'x' } })
      expect(answer.events).toHaveLength(2)
      ids.push(...answer.events.map(({ id }) => id), (await standalone.next())?.id)
      await standalone.cancel()
    }
    expect(ids).not.toContain(undefined)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('of a store without an event log, neither: each node has its own', async () => {
    vi.useFakeTimers({ toFake: FAKED })
    const { sessions } = memory()
    const ids = new Set<string | undefined>()
    let client: WireClient | undefined
    for (let node = 0; node < 3; node++) {
      const factory = scripted()
      const handler = serve(factory, { backend: { sessions } })
      client = client ? client.on(handler) : await openSession(handler)
      const standalone = await client.get()
      await factory.last.notify('notifications/message', { level: 'info', data: node })
      ids.add((await standalone.next())?.id)
      await handler.close()
      // positions begin at the clock, and no process restarts within a millisecond
      await vi.advanceTimersByTimeAsync(1)
    }
    expect(ids.size).toBe(3)
  })
})

describe('one store for several sessions', () => {
  test('never replays one session’s events to another', async () => {
    const shared = gated()
    const script: Script = {
      'tools/call': async (request, server) => {
        await server.notify('notifications/message', { data: server.context.session.id })
        await server.notify('notifications/progress', { data: server.context.session.id }, request.id)
        return {}
      },
    }
    const handler = serve(scripted(script), { backend: shared })
    const alice = await openSession(handler)
    const bob = await openSession(handler)
    const cursors: Record<string, string[]> = {}
    for (const client of [alice, bob]) {
      const standalone = await client.get()
      const start = standalone.lastEventId
      const answer = await client.request('tools/call', { name: 'x' })
      const event = await standalone.next()
      expect(event?.message.params.data).toBe(client.sessionId)
      await standalone.cancel()
      cursors[client.sessionId] = [start, event?.id, ...answer.events.map(({ id }) => id)].filter(
        (id): id is string => id !== undefined,
      )
    }
    for (const [client, other] of [
      [alice, bob],
      [bob, alice],
    ] as const) {
      for (const cursor of cursors[other.sessionId] ?? []) {
        const answer = await client.send('GET', undefined, { headers: { 'last-event-id': cursor } }).then(read)
        expect(answer.status).toBe(400)
        expect(answer.body.error.code).toBe(-32000)
      }
      // what is forged from one's own tag and the other's stream
      const [mine = ''] = cursors[client.sessionId]?.slice(-1) ?? []
      const [theirs = ''] = cursors[other.sessionId]?.slice(-1) ?? []
      const forged = [mine.split('.')[0], ...theirs.split('.').slice(1)].join('.')
      expect((await client.send('GET', undefined, { headers: { 'last-event-id': forged } }).then(read)).status).toBe(
        400,
      )
      for (const cursor of cursors[client.sessionId] ?? []) {
        const stream = await client.get(cursor)
        expect([200, 204]).toContain(stream.status)
        await stream.cancel()
      }
    }
  })
})

describe('one POST', () => {
  test('that is refused halfway leaves nothing running that would answer once more', async () => {
    vi.useFakeTimers({ toFake: FAKED })
    const factory = scripted({ 'tools/call': () => UNANSWERED })
    const handler = serve(factory)
    const client = await openSession(handler, { protocolVersion: '2025-03-26' })
    const headers = { 'mcp-protocol-version': '2025-03-26' }
    const refused = await client.post(
      [
        { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'slow' } },
        { jsonrpc: '2.0', id: 'nobody-asked', result: {} },
      ],
      { headers },
    )
    expect(refused.status).toBe(400)
    // node:http throws if an answer is begun twice, and a timer's throw ends the process
    const begun = vi.spyOn(FetchHttpReply.prototype, 'stream')
    await vi.advanceTimersByTimeAsync(1000)
    expect(begun).not.toHaveBeenCalled()
    begun.mockRestore()
    // and the id is free again
    const again = client.post({ jsonrpc: '2.0', id: 1, method: 'ping' }, { headers })
    await vi.advanceTimersByTimeAsync(1000)
    expect((await again).status).toBe(200)
  })

  test('whose server throws at it is answered once', async () => {
    vi.useFakeTimers({ toFake: FAKED })
    const factory = scripted()
    const handler = serve((context) => {
      const server = factory(context)
      return {
        close: async () => (await server).close(),
        connect: async (transport) => {
          await (await server).connect(transport)
          const { onmessage } = transport
          transport.onmessage = (message, extra) => {
            if ('method' in message && message.method === 'tools/call') throw new Error('no')
            onmessage?.(message, extra)
          }
        },
      }
    })
    const client = await openSession(handler)
    expect((await client.post({ jsonrpc: '2.0', id: 1, method: 'tools/call' })).status).toBe(500)
    const begun = vi.spyOn(FetchHttpReply.prototype, 'stream')
    await vi.advanceTimersByTimeAsync(1000)
    expect(begun).not.toHaveBeenCalled()
    begun.mockRestore()
    const again = client.post({ jsonrpc: '2.0', id: 1, method: 'ping' })
    await vi.advanceTimersByTimeAsync(1000)
    expect((await again).status).toBe(200)
  })
})

test('initialize with the id of a foreign or unknown session gets a session of its own', async () => {
  const handler = serve(scripted())
  const alice = await openSession(handler, { authInfo: authOf('alice') })
  for (const sessionId of [alice.sessionId, 'never-seen']) {
    const answer = await initialize(handler, { authInfo: authOf('bob'), sessionId })
    expect(answer.status).toBe(200)
    expect(answer.sessionId).not.toBe(sessionId)
  }
  const again = await initialize(handler, { authInfo: authOf('alice'), sessionId: alice.sessionId })
  expect(again.status).toBe(400)
  expect(again.body.error.code).toBe(-32600)
})

test('a DELETE of a session nobody knows is 404, not a silent 200', async () => {
  const handler = serve(scripted())
  const answer = await send(handler, 'DELETE', undefined, { sessionId: 'never-seen' }).then(read)
  expect(answer.status).toBe(404)
  expect(answer.body.error.code).toBe(-32001)
})

async function list(handler: SessionHandler): Promise<string[]> {
  const ids: string[] = []
  for await (const { id } of handler.sessions.list()) ids.push(id)
  return ids
}
