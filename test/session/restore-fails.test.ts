/** A restore that fails is told as what it is, to all who wait for it, and is in nobody's way afterwards (invariant 1). */
import { describe, expect, test } from 'vitest'
import { handshake, type Script, scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve, stored } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'

describe('a store that fails while a session is loaded', () => {
  test('503 with Retry-After for all who wait, and fine when it recovers', async () => {
    const { backend, client } = await stored()
    const factory = scripted()
    client.on(serve(factory, { backend }))
    const gate = backend.calls.hold('sessions.load')
    const waiting = [
      client.request('tools/list'),
      client.request('tools/list'),
      client.send({ method: 'GET' }),
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

  test('503 for a response, which needs no restore', async () => {
    const { backend, client } = await stored()
    const factory = scripted()
    client.on(serve(factory, { backend }))
    const recover = backend.calls.fail('sessions.load', new Error('secret connection string'))
    const answer = await client.respond('whatever')
    expect(answer).toMatchObject({ status: 503, body: { error: { code: -32603 } } })
    expect(JSON.stringify(answer.body)).not.toContain('secret')
    recover()
    expect((await client.respond('whatever')).status).toBe(400)
    expect(factory.servers).toHaveLength(0)
  })

  test('after the node has begun to listen: 503 for all who wait', async () => {
    const { backend, client } = await stored()
    const factory = scripted()
    client.on(serve(factory, { backend }))
    const joined = backend.calls.hold('bus.subscribe')
    const waiting = [client.request('tools/list'), client.request('tools/list')]
    await joined.reached
    const recover = backend.calls.fail('sessions.load')
    joined.open()
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(503)
    expect(factory.servers).toHaveLength(0)
    recover()
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('with the bus: 503 for all who wait, and one restore when it is back', async () => {
    const { backend, client } = await stored()
    const factory = scripted()
    client.on(serve(factory, { backend }))
    const recover = backend.calls.fail('bus.subscribe')
    const [one, two] = await Promise.all([client.request('tools/list'), client.request('tools/list')])
    expect([one.status, two.status]).toEqual([503, 503])
    recover()
    expect((await client.request('tools/list')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
  })

  test('by never answering: 503 after backendTimeout', async () => {
    const { backend, client } = await stored()
    const pass = fakeTime()
    client.on(serve(scripted(), { backend, backendTimeout: 700 }))
    const gate = backend.calls.hold('sessions.load')
    const waiting = [client.request('tools/list'), client.delete()]
    await gate.reached
    backend.calls.hold('sessions.load')
    await pass(701)
    const [asked] = await Promise.all(waiting)
    expect(asked?.status).toBe(503)
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

  test.each(Object.entries(at))(
    'in %s: 500, nothing is left of it, and the next request works',
    async (where, make) => {
      const { backend, client } = await stored()
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
          backend,
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
      expect((await client.send({ method: 'GET' })).status).toBe(500)
      expect((await handler.status()).liveSessions).toBe(0)
      broken = false
      expect((await client.request('tools/list')).status).toBe(200)
      expect(good.servers).toHaveLength(1)
    },
  )

  test('because the server negotiates another version than before: 500, not a session of two minds', async () => {
    const { backend, client } = await stored()
    let version: string | undefined = '2025-06-18'
    const factory = scripted({ initialize: (request) => handshake(request, version) })
    client.on(serve(factory, { backend }))
    const answer = await client.request('tools/list')
    expect(answer.status).toBe(500)
    expect(factory.last.closed).toBe(true)
    expect(factory.last.methods).toEqual(['initialize'])
    version = undefined
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('because the server dies during its replay: 500, and the next request works', async () => {
    const { backend, client } = await stored()
    let dying = true
    const factory = scripted({
      initialize: (request, server) => {
        if (!dying) return handshake(request)
        void server.close()
        return UNANSWERED
      },
    })
    client.on(serve(factory, { backend }))
    expect((await client.request('tools/list')).status).toBe(500)
    dying = false
    expect((await client.request('tools/list')).status).toBe(200)
  })

  test('and so does the server’s close: 500, and the next request works', async () => {
    const { backend, client } = await stored()
    let broken = true
    const factory = scripted()
    const handler = serve(
      (context) => {
        const server = factory(context)
        if (broken) Object.assign(server, { close: () => Promise.reject(new Error('cannot close')) })
        return server
      },
      {
        backend,
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

  test('because the handler is closed meanwhile: no server is left behind', async () => {
    const { backend, client } = await stored()
    const built = deferred()
    const factory = scripted({}, () => built.promise)
    const handler = serve(factory, { backend })
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
