/** A new instance is told what its predecessors were told, before anybody asks it anything. */

import { Server as ServerV1 } from '@modelcontextprotocol/sdk/server/index.js'
import { ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { Server as ServerV2 } from '@modelcontextprotocol/server'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Journal } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import type { ServerFactory } from '../../src/index.js'
import {
  createSessionHandler,
  currentSession,
  type ServerInstance,
  type Session,
  type SessionHandler,
  type SessionHandlerOptions,
} from '../../src/index.js'
import { journalled, replay } from '../../src/session/journal.js'
import { deferred, FAKED, gated, quiet } from './gated-store.js'
import { handshake, type ScriptedFactory, scripted } from './scripted-server.js'
import { authOf, CLIENT_INFO, initialize, openSession, read, WireClient } from './wire-client.js'

vi.setConfig({ testTimeout: 5000 })

const handlers: SessionHandler[] = []
afterEach(async () => {
  await Promise.all(handlers.splice(0).map((handler) => handler.close()))
  vi.useRealTimers()
})

function serve(factory: ServerFactory, options: SessionHandlerOptions = {}): SessionHandler {
  const handler = createSessionHandler(factory, options)
  handlers.push(handler)
  return handler
}

/** What a restored instance was told before the first request. */
async function told(client: WireClient, backend: ReturnType<typeof memory>) {
  const factory = scripted()
  await client.on(serve(factory, { backend })).request('tools/list')
  return factory.last.received
    .map(({ message }) => message)
    .filter((message) => 'method' in message && message.method !== 'tools/list')
    .map((message) => ('method' in message ? [message.method, message.params] : []))
}

describe('the journal', () => {
  const empty: Journal = { initialize: {}, initialized: false, subscriptions: [] }
  const request = (method: string, params = {}) => ({ jsonrpc: '2.0' as const, id: 1, method, params })

  test('keeps the last level, each subscription once in the order it was made, and nothing else', () => {
    const journal = [
      request('resources/subscribe', { uri: 'a' }),
      request('logging/setLevel', { level: 'debug' }),
      request('tools/call', { name: 'x' }),
      request('resources/subscribe', { uri: 'b' }),
      request('resources/subscribe', { uri: 'a' }),
      request('logging/setLevel', { level: 'error' }),
      request('resources/unsubscribe', { uri: 'never' }),
      request('resources/subscribe', { uri: 'c' }),
      request('resources/unsubscribe', { uri: 'a' }),
      request('resources/subscribe', { uri: 'a' }),
    ].reduce(journalled, empty)
    expect(journal).toEqual({ ...empty, setLevel: { level: 'error' }, subscriptions: ['b', 'c', 'a'] })
  })

  test('stays the same object when nothing changes, so that nothing is stored', () => {
    const journal = journalled(empty, request('resources/subscribe', { uri: 'a' }))
    expect(journalled(journal, request('resources/subscribe', { uri: 'a' }))).toBe(journal)
    expect(journalled(journal, request('resources/unsubscribe', { uri: 'b' }))).toBe(journal)
    expect(journalled(journal, request('ping'))).toBe(journal)
  })

  test('what is left to tell turns what an instance knows into what it should know', () => {
    const from = { ...empty, setLevel: { level: 'info' }, subscriptions: ['a', 'b'] }
    const to = { ...empty, initialized: true, setLevel: { level: 'debug' }, subscriptions: ['b', 'c'] }
    expect(replay(from, to).map(({ method, params }) => [method, params])).toEqual([
      ['notifications/initialized', undefined],
      ['logging/setLevel', { level: 'debug' }],
      ['resources/subscribe', { uri: 'c' }],
      ['resources/unsubscribe', { uri: 'a' }],
    ])
    expect(replay(to, to)).toEqual([])
  })

  test('is replayed compacted and in order, with the parameters that the client sent', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }), { capabilities: { sampling: { x: 1 } } })
    await client.request('resources/subscribe', { uri: 'test://b' })
    await client.request('logging/setLevel', { level: 'debug' })
    await client.request('resources/subscribe', { uri: 'test://a' })
    await client.request('resources/subscribe', { uri: 'test://gone' })
    await client.request('logging/setLevel', { level: 'warning', _meta: { kept: true } })
    await client.request('resources/unsubscribe', { uri: 'test://gone' })
    await client.request('resources/subscribe', { uri: 'test://a' })
    const expected = [
      ['initialize', { protocolVersion: '2025-11-25', capabilities: { sampling: { x: 1 } }, clientInfo: CLIENT_INFO }],
      ['notifications/initialized', undefined],
      ['logging/setLevel', { level: 'warning', _meta: { kept: true } }],
      ['resources/subscribe', { uri: 'test://b' }],
      ['resources/subscribe', { uri: 'test://a' }],
    ]
    expect(await told(client, backend)).toEqual(expected)
    expect(await told(client, backend)).toEqual(expected)
  })

  test('a client that never said `initialized` is not taken to have', async () => {
    const backend = memory()
    const { sessionId } = await initialize(serve(scripted(), { backend }))
    const methods = (await told(new WireClient(serve(scripted()), sessionId ?? ''), backend)).map(([method]) => method)
    expect(methods).toEqual(['initialize'])
  })

  test('what the server refused is not journalled', async () => {
    const backend = memory()
    const refusing = scripted({
      'resources/subscribe': () => {
        throw new Error('no such resource')
      },
      'logging/setLevel': () => {
        throw new Error('no such level')
      },
    })
    const client = await openSession(serve(refusing, { backend }))
    expect((await client.request('resources/subscribe', { uri: 'test://a' })).body.error.message).toMatch(/no such/)
    await client.request('logging/setLevel', { level: 'loud' })
    expect((await told(client, backend)).map(([method]) => method)).toEqual(['initialize', 'notifications/initialized'])
  })

  test('a server that refuses at the restore what it took before is served all the same, and the trouble is told', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    await client.request('resources/subscribe', { uri: 'test://a' })
    await client.request('resources/subscribe', { uri: 'test://b' })
    const onerror = vi.fn()
    const factory = scripted({
      'resources/subscribe': ({ params }) => {
        if (params?.uri === 'test://a') throw new Error('not any more')
        return {}
      },
    })
    client.on(serve(factory, { backend, onerror }))
    expect((await client.request('tools/list')).status).toBe(200)
    expect(factory.last.all('resources/subscribe')).toHaveLength(2)
    expect(onerror).toHaveBeenCalledWith(expect.objectContaining({ message: expect.stringContaining('not any more') }))
  })
})

describe('state-bearing requests', () => {
  const CASES: [method: string, params: Record<string, unknown>][] = [
    ['logging/setLevel', { level: 'debug' }],
    ['resources/subscribe', { uri: 'test://a' }],
    ['resources/unsubscribe', { uri: 'test://before' }],
  ]

  test.each(CASES)('%s is stored before it is answered', async (method, params) => {
    const backend = gated()
    const client = await openSession(serve(scripted(), { backend }))
    await client.request('resources/subscribe', { uri: 'test://before' })
    const gate = backend.calls.hold('sessions.update')
    let answered = false
    const answer = client.request(method, params).then((value) => {
      answered = true
      return value
    })
    await gate.reached
    await quiet()
    expect(answered).toBe(false)
    gate.open()
    expect((await answer).body.result).toEqual({})
  })

  test.each(CASES)('%s when the store fails: 503, and it is not counted as done', async (method, params) => {
    const backend = gated()
    const factory = scripted()
    const client = await openSession(serve(factory, { backend }))
    await client.request('resources/subscribe', { uri: 'test://before' })
    const before = await backend.sessions.load(client.sessionId)
    const recover = backend.calls.fail('sessions.update', new Error('secret'))
    const failed = await client.request(method, params)
    expect(failed.status).toBe(503)
    expect(failed.retryAfter).toBeDefined()
    expect(JSON.stringify(failed.body)).not.toContain('secret')
    expect(await backend.sessions.load(client.sessionId)).toEqual(before)
    expect((await client.request('ping')).status).toBe(200)
    recover()
    expect((await client.request(method, params)).body.result).toEqual({})
    expect((await backend.sessions.load(client.sessionId))?.revision).toBe((before?.revision ?? 0) + 1)
    expect(factory.servers).toHaveLength(1)
  })

  test('in a stream, a failing store is an error in the stream', async () => {
    const backend = gated()
    const client = await openSession(serve(scripted(), { backend, responseMode: 'sse' }))
    backend.calls.fail('sessions.update')
    const { status, body } = await client.request('logging/setLevel', { level: 'debug' })
    expect(status).toBe(200)
    expect(body.error.code).toBe(-32603)
  })

  test('`initialized` is stored before it is accepted; a failing store is 503, and the server has not seen it', async () => {
    const backend = gated()
    const factory = scripted()
    const { sessionId } = await initialize(serve(factory, { backend }))
    const client = new WireClient(handlers.at(-1) as SessionHandler, sessionId ?? '')
    const recover = backend.calls.fail('sessions.update')
    expect((await client.notify('notifications/initialized')).status).toBe(503)
    expect(factory.last.methods).toEqual(['initialize'])
    recover()
    expect((await client.notify('notifications/initialized')).status).toBe(202)
    expect(factory.last.methods).toEqual(['initialize', 'notifications/initialized'])
  })

  test('an update whose answer was lost is found out by the next one', async () => {
    const backend = gated()
    const factory = scripted()
    const client = await openSession(serve(factory, { backend }))
    const gate = backend.calls.holdAnswer('sessions.update')
    const lost = client.request('resources/subscribe', { uri: 'test://a' })
    await gate.reached
    gate.fail()
    expect((await lost).status).toBe(503)
    expect((await client.request('resources/subscribe', { uri: 'test://b' })).status).toBe(200)
    expect((await backend.sessions.load(client.sessionId))?.journal.subscriptions).toEqual(['test://a', 'test://b'])
  })

  test('several at once are journalled in the order in which they were answered', async () => {
    const backend = gated()
    const client = await openSession(serve(scripted(), { backend }))
    const uris = ['c', 'a', 'd', 'b'].map((name) => `test://${name}`)
    await Promise.all(uris.map((uri) => client.request('resources/subscribe', { uri })))
    expect((await backend.sessions.load(client.sessionId))?.journal.subscriptions).toEqual(uris)
  })
})

describe('two nodes that have the same session live', () => {
  async function pair(script = {}) {
    const shared = memory()
    const make = () => {
      const factory = scripted(script)
      const backend = gated(shared)
      return { factory, backend, handler: serve(factory, { backend }) }
    }
    const [a, b] = [make(), make()]
    const client = await openSession(a.handler)
    await client.on(b.handler).request('ping')
    const onA = new WireClient(a.handler, client.sessionId)
    const onB = new WireClient(b.handler, client.sessionId)
    return { shared, a, b, onA, onB, id: client.sessionId }
  }

  const subscriptions = (factory: ScriptedFactory) => {
    const uris = new Set<unknown>()
    for (const { message } of factory.last.received) {
      if (!('method' in message)) continue
      if (message.method === 'resources/subscribe') uris.add(message.params?.uri)
      if (message.method === 'resources/unsubscribe') uris.delete(message.params?.uri)
    }
    return [...uris].sort()
  }

  test('what one is told takes effect on the other, by the time it is answered', async () => {
    const { a, b, onA, onB } = await pair()
    await onA.request('logging/setLevel', { level: 'debug' })
    expect(b.factory.last.all('logging/setLevel')).toMatchObject([{ params: { level: 'debug' } }])
    await onB.request('resources/subscribe', { uri: 'test://a' })
    expect(subscriptions(a.factory)).toEqual(['test://a'])
    await onA.request('resources/unsubscribe', { uri: 'test://a' })
    expect(subscriptions(b.factory)).toEqual([])
    expect(a.factory.servers).toHaveLength(1)
    expect(b.factory.servers).toHaveLength(1)
  })

  test('`initialized` that arrives at the other node takes effect on both', async () => {
    const shared = memory()
    const [one, two] = [scripted(), scripted()]
    const { sessionId = '' } = await initialize(serve(one, { backend: shared }))
    const other = new WireClient(serve(two, { backend: shared }), sessionId)
    expect((await other.notify('notifications/initialized')).status).toBe(202)
    expect(two.last.methods).toEqual(['initialize', 'notifications/initialized'])
    expect(one.last.methods).toEqual(['initialize', 'notifications/initialized'])
  })

  test('subscriptions made on both at once both survive, here and there', async () => {
    const { shared, a, b, onA, onB, id } = await pair()
    const gates = [a.backend.calls.hold('sessions.update'), b.backend.calls.hold('sessions.update')] as const
    const both = [
      onA.request('resources/subscribe', { uri: 'test://a' }),
      onB.request('resources/subscribe', { uri: 'test://b' }),
    ]
    await Promise.all(gates.map(({ reached }) => reached))
    for (const gate of gates) gate.open()
    for (const answer of await Promise.all(both)) expect(answer.body.result).toEqual({})
    await quiet()
    expect((await shared.sessions.load(id))?.journal.subscriptions.toSorted()).toEqual(['test://a', 'test://b'])
    expect(subscriptions(a.factory)).toEqual(['test://a', 'test://b'])
    expect(subscriptions(b.factory)).toEqual(['test://a', 'test://b'])
  })

  test('of two levels set at once the one that was stored last counts, on both', async () => {
    const { shared, a, b, onA, onB, id } = await pair()
    const gate = a.backend.calls.hold('sessions.update')
    const first = onA.request('logging/setLevel', { level: 'error' })
    await gate.reached
    await onB.request('logging/setLevel', { level: 'debug' })
    gate.open()
    await first
    await quiet()
    expect((await shared.sessions.load(id))?.journal.setLevel).toEqual({ level: 'error' })
    for (const { factory } of [a, b]) {
      expect(factory.last.all('logging/setLevel').at(-1)?.params).toEqual({ level: 'error' })
    }
  })

  test('a change while the other’s look at the record is under way is not missed', async () => {
    const { b, onA, onB } = await pair()
    const gate = b.backend.calls.holdAnswer('sessions.load')
    const first = onA.request('resources/subscribe', { uri: 'test://1' })
    await gate.reached
    const second = onA.request('resources/subscribe', { uri: 'test://2' })
    await quiet()
    gate.open()
    await Promise.all([first, second])
    await onB.request('ping')
    await quiet()
    expect(subscriptions(b.factory)).toEqual(['test://1', 'test://2'])
  })

  test('a look at the record that comes back late undoes nothing', async () => {
    const { a, b, onA, onB } = await pair()
    // B looks because of A's change, and has read the record when the client goes on at B
    const gate = b.backend.calls.holdAnswer('sessions.load')
    const first = onA.request('logging/setLevel', { level: 'debug' })
    await gate.reached
    expect((await onB.request('resources/subscribe', { uri: 'test://b' })).status).toBe(200)
    gate.open()
    await first
    await quiet()
    expect(subscriptions(b.factory)).toEqual(['test://b'])
    expect(b.factory.last.all('resources/unsubscribe')).toEqual([])
    expect(subscriptions(a.factory)).toEqual(['test://b'])
  })

  test('a change while the other is restoring reaches the new instance', async () => {
    for (const held of ['before', 'factory', 'replay'] as const) {
      const shared = memory()
      const client = await openSession(serve(scripted(), { backend: shared }))
      const came = deferred()
      const go = deferred()
      const wait = async () => {
        came.resolve()
        await go.promise
      }
      const factory = scripted(
        {
          initialize: async (request) => {
            if (held === 'replay') await wait()
            return handshake(request)
          },
        },
        () => (held === 'factory' ? wait() : undefined),
      )
      const backend = gated(shared)
      if (held === 'before') {
        const gate = backend.calls.holdAnswer('sessions.load')
        void gate.reached.then(came.resolve as never)
        void go.promise.then(() => gate.open())
      }
      const there = new WireClient(serve(factory, { backend }), client.sessionId)
      const restoring = there.request('tools/list')
      await came.promise
      const change = client.request('logging/setLevel', { level: 'debug' })
      await quiet()
      go.resolve()
      expect((await restoring).status).toBe(200)
      expect((await change).status).toBe(200)
      await quiet()
      expect(factory.last.all('logging/setLevel'), held).toMatchObject([{ params: { level: 'debug' } }])
    }
  })

  test('a node that the message does not reach finds out when it looks', async () => {
    vi.useFakeTimers({ toFake: FAKED })
    const { sessions, events } = memory()
    const [one, two] = [scripted(), scripted()]
    const client = await openSession(serve(one, { backend: { sessions, events: events! } }))
    const other = new WireClient(serve(two, { backend: { sessions, events: events! } }), client.sessionId)
    await other.request('ping')
    await client.request('resources/subscribe', { uri: 'test://a' })
    expect(subscriptions(two)).toEqual([])
    await vi.advanceTimersByTimeAsync(6000)
    await other.request('ping')
    expect(subscriptions(two)).toEqual(['test://a'])
  })
})

describe('the first request never overtakes the replay', () => {
  const lines: [string, (log: string[]) => ServerInstance][] = [
    [
      'v1',
      (log) => {
        const server = new ServerV1({ name: 's', version: '1' }, { capabilities: { tools: {}, logging: {} } })
        server.oninitialized = () => void log.push(`initialized by ${server.getClientVersion()?.name}`)
        server.setRequestHandler(ListToolsRequestSchema, () => {
          log.push(`list for ${server.getClientVersion()?.name}, restored: ${currentSession().restored}`)
          return { tools: [] }
        })
        return server
      },
    ],
    [
      'v2',
      (log) => {
        const server = new ServerV2({ name: 's', version: '1' }, { capabilities: { tools: {}, logging: {} } })
        server.oninitialized = () => void log.push(`initialized by ${server.getClientVersion()?.name}`)
        server.setRequestHandler('tools/list', () => {
          log.push(`list for ${server.getClientVersion()?.name}, restored: ${currentSession().restored}`)
          return { tools: [] }
        })
        return server
      },
    ],
  ]

  test.each(lines)('%s: `oninitialized` has run, and the client is known', async (_, build) => {
    const backend = memory()
    const log: string[] = []
    const client = await openSession(serve(() => build(log), { backend }))
    for (let node = 0; node < 3; node++) {
      log.length = 0
      client.on(serve(() => build(log), { backend }))
      const answers = await Promise.all([client.request('tools/list'), client.request('tools/list')])
      for (const answer of answers) expect(answer.body.result.tools).toEqual([])
      expect(log).toEqual([
        'initialized by wire-client',
        'list for wire-client, restored: true',
        'list for wire-client, restored: true',
      ])
    }
  })

  test.each(['v1', 'v2'])('%s: what `oninitialized` says was said before, and is not said again', async (line) => {
    const backend = memory()
    const build = (): ServerInstance => {
      if (line === 'v1') {
        const server = new ServerV1({ name: 's', version: '1' }, { capabilities: { logging: {} } })
        server.oninitialized = () => void server.sendLoggingMessage({ level: 'error', data: 'welcome' })
        return server
      }
      const server = new ServerV2({ name: 's', version: '1' }, { capabilities: { logging: {} } })
      server.oninitialized = () => void server.sendLoggingMessage({ level: 'error', data: 'welcome' })
      return server
    }
    const handler = serve(build, { backend })
    const client = await openSession(handler)
    const stream = await client.get()
    expect((await stream.next())?.message.params.data).toBe('welcome')
    const cursor = stream.lastEventId
    await stream.cancel()
    await handler.close()
    const there = serve(build, { backend })
    await client.on(there).request('ping')
    await there.sessions.get(client.sessionId)
    await quiet()
    const resumed = await client.get(cursor)
    await there.notify.toolsChanged()
    expect((await resumed.next())?.message.method).toBe('notifications/tools/list_changed')
    await resumed.cancel()
  })
})

describe('during the replay', () => {
  test('notifications of the server are not sent again; what comes after is', async () => {
    const backend = memory()
    const script = {
      initialize: (request: Parameters<typeof handshake>[0], server: ScriptedFactory['last']) => {
        void server.notify('notifications/message', { data: 'in initialize' })
        return handshake(request)
      },
      'notifications/initialized': (_: unknown, server: ScriptedFactory['last']) =>
        server.notify('notifications/message', { data: 'in initialized' }),
      'resources/subscribe': (_: unknown, server: ScriptedFactory['last']) => {
        void server.notify('notifications/resources/updated', { data: 'in subscribe' })
        return {}
      },
    }
    const first = serve(scripted(script), { backend })
    const client = await openSession(first)
    await client.request('resources/subscribe', { uri: 'test://a' })
    const stream = await client.get()
    const said = []
    for (let i = 0; i < 3; i++) said.push((await stream.next())?.message.params.data)
    expect(said).toEqual(['in initialize', 'in initialized', 'in subscribe'])
    const cursor = stream.lastEventId
    await stream.cancel()
    await first.close()
    const factory = scripted(script)
    client.on(serve(factory, { backend }))
    const resumed = await client.get(cursor)
    await factory.last.notify('notifications/message', { data: 'new' })
    expect((await resumed.next())?.message.params.data).toBe('new')
    await resumed.cancel()
  })

  test('a server may ask its client: the request goes out, and the answer comes back', async () => {
    const backend = memory()
    const origin = serve(scripted(), { backend })
    const client = await openSession(origin)
    await origin.close()
    const factory = scripted({
      'notifications/initialized': (_, server) => server.ask(0, 'roots/list'),
    })
    client.on(serve(factory, { backend }))
    const stream = await client.get()
    const asked = await stream.next()
    expect(asked?.message.method).toBe('roots/list')
    expect((await client.respond(asked?.message.id, { roots: [] })).status).toBe(202)
    expect(factory.last.answers).toEqual([{ jsonrpc: '2.0', id: 0, result: { roots: [] } }])
    await stream.cancel()
  })

  test('a server that asks in the middle of a replayed request, and answers only then, gets its answer', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    await client.request('resources/subscribe', { uri: 'test://a' })
    const stream = await client.get()
    const factory: ScriptedFactory = scripted({
      'resources/subscribe': async (_, server) => {
        await server.ask(0, 'roots/list')
        await vi.waitFor(() => expect(server.answers).toHaveLength(1))
        return {}
      },
    })
    const there = serve(factory, { backend })
    const first = new WireClient(there, client.sessionId).request('tools/list')
    const asked = await stream.next()
    expect(asked?.message.method).toBe('roots/list')
    // it may arrive anywhere
    expect((await client.respond(asked?.message.id, { roots: [] })).status).toBe(202)
    expect((await first).status).toBe(200)
    await stream.cancel()
  })
})

describe('what the factory and the handlers are told', () => {
  test('restored, the session, and the auth of the request at hand, never the original’s', async () => {
    const backend = memory()
    const original = { ...authOf('app', 'alice'), token: 'original', scopes: ['admin'] }
    const renewed = { ...authOf('app', 'alice'), token: 'renewed' }
    const contexts: unknown[] = []
    const before = ({ restored, authInfo, session, request }: Parameters<ServerFactory>[0]) =>
      contexts.push([restored, authInfo?.token, session.id, session.restored, request.method])
    const first = scripted({}, before)
    const client = await openSession(serve(first, { backend }), { authInfo: original })
    const factory = scripted({}, before)
    const hooked: unknown[] = []
    client.on(
      serve(factory, {
        backend,
        authorizeRestore: (_, { authInfo }) => hooked.push(authInfo?.token) > 0,
        onSessionRestored: (_, { authInfo }) => void hooked.push(authInfo?.token),
      }),
    )
    await client.request('tools/list', {}, { authInfo: renewed })
    const { sessionId: id } = client
    expect(contexts).toEqual([
      [false, 'original', id, false, 'POST'],
      [true, 'renewed', id, true, 'POST'],
    ])
    expect(hooked).toEqual(['renewed', 'renewed'])
    for (const { message, extra } of factory.last.received) {
      expect(extra?.authInfo?.token, JSON.stringify(message)).toBe('renewed')
    }
    expect(JSON.stringify(await backend.sessions.load(id))).not.toContain('original')
  })
})

describe('hooks', () => {
  test('onSessionInitialized: once, with the client’s info, when the record is stored and before the id is given out', async () => {
    const backend = gated()
    const hooked = deferred()
    const seen: unknown[] = []
    const handler = serve(scripted(), {
      backend,
      onSessionInitialized: async (session, { authInfo }) => {
        const stored = await backend.sessions.load(session.id)
        seen.push([session.clientInfo, session.protocolVersion, session.restored, stored?.id === session.id, authInfo])
        await session.state.set('from the hook', 1)
        await hooked.promise
      },
    })
    let answered = false
    const answer = initialize(handler).then((value) => {
      answered = true
      return value
    })
    await quiet()
    expect(seen).toEqual([[CLIENT_INFO, '2025-11-25', false, true, undefined]])
    expect(answered).toBe(false)
    hooked.resolve()
    const client = new WireClient(handler, (await answer).sessionId ?? '')
    await client.request('ping')
    expect(seen).toHaveLength(1)
  })

  test('authorizeRestore false: 404 on POST, GET and DELETE, and the session goes on elsewhere', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    const here = client.handler
    const factory = scripted()
    const asked: string[] = []
    const there = serve(factory, {
      backend,
      authorizeRestore: (session, { request }) => {
        asked.push(`${session.id === client.sessionId} ${session.clientInfo?.name} ${request.method}`)
        return false
      },
    })
    client.on(there)
    expect((await client.request('ping')).status).toBe(404)
    expect((await client.send('GET', undefined).then(read)).status).toBe(404)
    expect((await client.delete()).status).toBe(404)
    expect(asked).toEqual(['true wire-client POST', 'true wire-client GET', 'true wire-client DELETE'])
    expect(factory.servers).toHaveLength(0)
    expect((await client.on(here).request('ping')).status).toBe(200)
  })

  test('authorizeRestore is not asked for what is live here', async () => {
    const authorizeRestore = vi.fn(() => false)
    const client = await openSession(serve(scripted(), { authorizeRestore }))
    expect((await client.request('ping')).status).toBe(200)
    expect((await client.delete()).status).toBe(200)
    expect(authorizeRestore).not.toHaveBeenCalled()
  })

  test.each(['throws', 'rejects'])('authorizeRestore that %s: 500, and nothing half-made', async (how) => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    let broken = true
    const factory = scripted()
    client.on(
      serve(factory, {
        backend,
        authorizeRestore: () => {
          if (!broken) return true
          const error = new Error('secret')
          if (how === 'throws') throw error
          return Promise.reject(error)
        },
      }),
    )
    for (const answer of [
      await client.request('ping'),
      await client.send('GET', undefined).then(read),
      await client.delete(),
    ]) {
      expect(answer.status).toBe(500)
      expect(JSON.stringify(answer.body)).not.toContain('secret')
    }
    expect(factory.servers).toHaveLength(0)
    broken = false
    expect((await client.request('ping')).status).toBe(200)
  })

  test('onSessionRestored: once for each restore, after the replay, before the first request', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    const factory = scripted()
    const seen: unknown[] = []
    client.on(
      serve(factory, {
        backend,
        onSessionRestored: (session: Session) => void seen.push([session.id, session.restored, factory.last.methods]),
      }),
    )
    await client.request('ping')
    await client.request('ping')
    expect(seen).toEqual([[client.sessionId, true, ['initialize', 'notifications/initialized']]])
  })

  describe('onSessionClosed', () => {
    async function watched(nodes: number) {
      const shared = memory()
      const seen: unknown[][] = []
      const made = Array.from({ length: nodes }, (_, index) =>
        serve(scripted(), {
          backend: shared,
          onSessionClosed: (session, reason) => void seen.push([index, session.id, session.clientInfo?.name, reason]),
        }),
      )
      const client = await openSession(made[0] as SessionHandler)
      return { shared, seen, nodes: made, client, id: client.sessionId }
    }

    test('deleted: by the client, once, on the node that did it', async () => {
      const { seen, nodes, client, id } = await watched(3)
      await client.on(nodes[1] as SessionHandler).request('ping')
      await client.on(nodes[2] as SessionHandler).delete()
      await quiet()
      expect(seen).toEqual([[2, id, 'wire-client', 'deleted']])
    })

    test('deleted: by the program', async () => {
      const { seen, nodes, client, id } = await watched(1)
      expect(await nodes[0]?.sessions.delete(id)).toBe(true)
      expect(await nodes[0]?.sessions.delete(id)).toBe(false)
      expect(seen).toEqual([[0, id, 'wire-client', 'deleted']])
      expect((await client.request('ping')).status).toBe(404)
    })

    test('two DELETEs at once: told once', async () => {
      const { seen, client } = await watched(1)
      const statuses = (await Promise.all([client.delete(), client.delete()])).map(({ status }) => status)
      expect(statuses).toContain(200)
      expect(seen).toHaveLength(1)
    })

    test('not for an eviction, nor for close', async () => {
      const { seen, nodes, client } = await watched(1)
      await client.request('ping')
      await nodes[0]?.close()
      expect(seen).toEqual([])
    })

    test('that throws fails the DELETE, and the session is gone all the same', async () => {
      const factory = scripted()
      const handler = serve(factory, {
        onSessionClosed: () => {
          throw new Error('no')
        },
      })
      const client = await openSession(handler)
      const stream = await client.get()
      expect((await client.delete()).status).toBe(500)
      expect((await client.request('ping')).status).toBe(404)
      expect(factory.last.closed).toBe(true)
      expect(await stream.rest()).toEqual([])
    })
  })
})
