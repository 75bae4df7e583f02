/** What the C# SDK proves of its session migration and resumability (csharp-sdk PR 1270 and its event-store tests), proved here. */
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { SessionStore } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import type { ServerFactory } from '../../src/index.js'
import { createSessionHandler, type SessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import { deferred, gated, quiet } from './gated-store.js'
import { scripted } from './scripted-server.js'
import {
  authOf,
  CLIENT_INFO,
  EventStream,
  initialize,
  openSession,
  read,
  send,
  type WireClient,
} from './wire-client.js'

vi.setConfig({ testTimeout: 5000 })

const handlers: SessionHandler[] = []
afterEach(() => Promise.all(handlers.splice(0).map((handler) => handler.close())))

function serve(factory: ServerFactory, options: SessionHandlerOptions = {}): SessionHandler {
  const handler = createSessionHandler(factory, options)
  handlers.push(handler)
  return handler
}

const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

/** A server whose one tool says who its client is. */
const LINES: [string, ServerFactory][] = [
  [
    'v1',
    () => {
      const mcp = new McpServerV1({ name: 'who', version: '1' })
      mcp.registerTool('who', {}, () => text(JSON.stringify(mcp.server.getClientVersion())))
      return mcp
    },
  ],
  [
    'v2',
    () => {
      const mcp = new McpServerV2({ name: 'who', version: '1' })
      mcp.registerTool('who', {}, () => text(JSON.stringify(mcp.server.getClientVersion())))
      return mcp
    },
  ],
]

const who = async (client: WireClient) =>
  JSON.parse((await client.request('tools/call', { name: 'who', arguments: {} })).body.result.content[0].text)

describe.each(LINES)('migration, servers of SDK line %s', (_, build) => {
  test('the hook at initialize gets the session’s id and what the client said of itself', async () => {
    const seen: unknown[] = []
    const handler = serve(build, {
      onSessionInitialized: ({ id, clientInfo, clientCapabilities, protocolVersion }) =>
        void seen.push({ id, clientInfo, clientCapabilities, protocolVersion }),
    })
    const client = await openSession(handler, { capabilities: { roots: { listChanged: true } } })
    expect(seen).toEqual([
      {
        id: client.sessionId,
        clientInfo: CLIENT_INFO,
        clientCapabilities: { roots: { listChanged: true } },
        protocolVersion: '2025-11-25',
      },
    ])
  })

  test('a node that does not know the id asks, restores, and its tools know the client', async () => {
    const backend = memory()
    const client = await openSession(serve(build, { backend }))
    const asked: unknown[] = []
    client.on(
      serve(build, {
        backend,
        authorizeRestore: ({ id, clientInfo }) => {
          asked.push([id, clientInfo])
          return true
        },
      }),
    )
    expect(await who(client)).toEqual(CLIENT_INFO)
    expect(asked).toEqual([[client.sessionId, CLIENT_INFO]])
  })

  test('the answer carries the id that was asked for', async () => {
    const backend = memory()
    const client = await openSession(serve(build, { backend }))
    client.on(serve(build, { backend }))
    for (const answer of [
      await client.request('tools/list'),
      await client.request('tools/list'),
      await client.notify('notifications/roots/list_changed'),
    ]) {
      expect(answer.sessionId).toBe(client.sessionId)
    }
  })

  test('the second request does not restore again', async () => {
    const backend = gated()
    const client = await openSession(serve(build, { backend }))
    const factory = vi.fn(build)
    const authorizeRestore = vi.fn(() => true)
    const onSessionRestored = vi.fn()
    client.on(serve(factory, { backend, authorizeRestore, onSessionRestored }))
    for (let i = 0; i < 5; i++) expect(await who(client)).toEqual(CLIENT_INFO)
    for (const spy of [factory, authorizeRestore, onSessionRestored]) expect(spy).toHaveBeenCalledOnce()
  })

  test('a GET restores, and what the server says then arrives', async () => {
    const backend = memory()
    const client = await openSession(serve(build, { backend }))
    const factory = vi.fn(build)
    const handler = serve(factory, { backend })
    const stream = await client.on(handler).get()
    expect(stream.status).toBe(200)
    expect(stream.sessionId).toBe(client.sessionId)
    expect(factory).toHaveBeenCalledOnce()
    await handler.notify.toolsChanged()
    expect((await stream.next())?.message.method).toBe('notifications/tools/list_changed')
    expect(await who(client)).toEqual(CLIENT_INFO)
    expect(factory).toHaveBeenCalledOnce()
    await stream.cancel()
  })
})

describe('migration', () => {
  test('refused: 404, and -32001 with the request’s own id', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    const factory = scripted()
    client.on(serve(factory, { backend, authorizeRestore: () => false }))
    const answer = await client.post({ jsonrpc: '2.0', id: 'mine', method: 'tools/list' })
    expect(answer.status).toBe(404)
    expect(answer.body).toEqual({ jsonrpc: '2.0', id: 'mine', error: { code: -32001, message: 'Session not found' } })
    expect((await client.send('GET', undefined).then(read)).status).toBe(404)
    expect(factory.servers).toEqual([])
  })

  test('without the store that has the session: 404', async () => {
    const client = await openSession(serve(scripted(), { backend: memory() }))
    const factory = scripted()
    client.on(serve(factory))
    expect((await client.request('tools/list')).status).toBe(404)
    expect(factory.servers).toEqual([])
  })

  test('a request without an id that is no initialize: 400 that says what is missing', async () => {
    const answer = await send(serve(scripted()), 'POST', { jsonrpc: '2.0', id: 3, method: 'tools/list' }).then(read)
    expect(answer.status).toBe(400)
    expect(answer.body).toMatchObject({ id: 3, error: { message: expect.stringMatching(/Mcp-Session-Id/) } })
  })

  test('the store that was given is the one that is asked, not the default', async () => {
    const backend = gated()
    const client = await openSession(serve(scripted(), { backend }))
    expect(backend.calls.count('sessions.create')).toBe(1)
    expect((await client.on(serve(scripted(), { backend })).request('ping')).status).toBe(200)
    // and parts that were not given do not replace those that were
    const { sessions } = memory()
    const elsewhere = await openSession(serve(scripted(), { backend: { sessions } }))
    expect((await elsewhere.on(serve(scripted(), { backend: { sessions } })).request('ping')).status).toBe(200)
  })

  test('the user whose session it is: another one is told of no session, before and after, and gets it never', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }), { authInfo: authOf('app', 'alice') })
    const there = serve(scripted(), { backend })
    const bob = { authInfo: authOf('app', 'bob') }
    expect((await client.request('ping', {}, bob)).status).toBe(404)
    expect((await client.on(there).request('ping', {}, bob)).status).toBe(404)
    expect((await client.request('ping')).status).toBe(200)
    expect((await client.request('ping', {}, bob)).status).toBe(404)
  })
})

describe('what their design left open', () => {
  test('the hook at initialize is not run for a handshake that the server refuses', async () => {
    const hook = vi.fn()
    const factory = scripted({
      initialize: () => {
        throw new Error('refused')
      },
    })
    await initialize(serve(factory, { onSessionInitialized: hook }))
    expect(hook).not.toHaveBeenCalled()
  })

  test('after a refusal a waiter and a newcomer do not get in each other’s way', async () => {
    const backend = gated()
    const client = await openSession(serve(scripted(), { backend }))
    const asked = deferred<boolean>()
    let refusals = 0
    const factory = scripted()
    client.on(serve(factory, { backend, authorizeRestore: () => (refusals++ === 0 ? asked.promise : true) }))
    const early = [client.request('ping'), client.request('ping')]
    await quiet()
    asked.resolve(false)
    const late = early[0]?.then(() => Promise.all([client.request('ping'), client.request('ping')]))
    expect((await Promise.all(early)).map(({ status }) => status)).toEqual([404, 404])
    expect((await late)?.map(({ status }) => status)).toEqual([200, 200])
    expect(factory.servers).toHaveLength(1)
  })

  test('DELETE on a node that never had the session tells the store: it does not resurrect', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    const home = client.handler
    expect((await client.on(serve(scripted(), { backend })).delete()).status).toBe(200)
    for (const node of [home, serve(scripted(), { backend })]) {
      expect((await client.on(node).request('ping')).status).toBe(404)
    }
  })

  test('a client’s answer that arrives at another node reaches the one that asked', async () => {
    const backend = memory()
    const factory = scripted()
    const client = await openSession(serve(factory, { backend }))
    const stream = await client.get()
    await factory.last.ask(0, 'roots/list')
    const asked = await stream.next()
    client.on(serve(scripted(), { backend }))
    expect((await client.respond(asked?.message.id, { roots: [] })).status).toBe(202)
    expect(factory.last.answers).toEqual([{ jsonrpc: '2.0', id: 0, result: { roots: [] } }])
    await stream.cancel()
  })

  test('so does `cancelled`', async () => {
    const backend = memory()
    const factory = scripted({ 'tools/call': () => new Promise(() => {}) })
    const client = await openSession(serve(factory, { backend, responseMode: 'json' }))
    const call = client.post({ jsonrpc: '2.0', id: 'long', method: 'tools/call' })
    await quiet()
    client.on(serve(scripted(), { backend }))
    expect((await client.notify('notifications/cancelled', { requestId: 'long' })).status).toBe(202)
    expect(factory.last.all('notifications/cancelled')).toMatchObject([{ params: { requestId: 'long' } }])
    await call
  })
})

describe('resumability', () => {
  test('five calls, a ping and a list, one after the other, on streams that can all be resumed', async () => {
    const handler = serve(scripted({ 'tools/call': ({ params }) => ({ n: params?.n }) }), { responseMode: 'sse' })
    const client = await openSession(handler)
    const ids = new Set<string | undefined>()
    for (let n = 0; n < 5; n++) {
      const { body, events } = await client.request('tools/call', { n })
      expect(body.result).toEqual({ n })
      for (const { id } of events) ids.add(id)
    }
    expect((await client.request('ping')).body.result).toEqual({})
    expect((await client.request('tools/list')).status).toBe(200)
    expect(ids.size).toBe(5)
    expect(ids).not.toContain(undefined)
  })

  test('a call that lets its client go and come back: each progress once, then the result', async () => {
    const steps = [deferred(), deferred(), deferred()]
    const factory = scripted({
      'tools/call': async (request, server, extra) => {
        for (const [step, { promise }] of steps.entries()) {
          await server.notify('notifications/progress', { progressToken: 't', progress: step }, request.id)
          if (step === 0) extra?.closeSSEStream?.()
          await promise
        }
        return { done: true }
      },
    })
    const client = await openSession(serve(factory))
    const first = new EventStream(await client.send('POST', { jsonrpc: '2.0', id: 1, method: 'tools/call' }))
    const before = await first.rest()
    for (const { resolve } of steps) resolve()
    await quiet()
    const resumed = await client.get(first.lastEventId)
    const messages = [...before, ...(await resumed.rest())].map(({ message }) => message)
    expect(messages.map(({ params, result }) => params?.progress ?? result)).toEqual([0, 1, 2, { done: true }])
  })

  test('a POST’s stream that broke is resumed: what followed, exactly once', async () => {
    const go = deferred()
    const factory = scripted({
      'tools/call': async (request, server) => {
        await server.notify('notifications/message', { data: 'seen' }, request.id)
        await go.promise
        await server.notify('notifications/message', { data: 'missed' }, request.id)
        return { done: true }
      },
    })
    const client = await openSession(serve(factory))
    const broken = new EventStream(await client.send('POST', { jsonrpc: '2.0', id: 1, method: 'tools/call' }))
    expect((await broken.next())?.message.params.data).toBe('seen')
    await broken.cancel()
    go.resolve()
    await quiet()
    for (let twice = 0; twice < 2; twice++) {
      const events = await (await client.get(broken.lastEventId)).rest()
      expect(events.map(({ message }) => message.params?.data ?? message.result)).toEqual(['missed', { done: true }])
    }
  })

  test('a GET’s stream that broke is resumed: what was missed, then what comes, once each', async () => {
    const factory = scripted()
    const client = await openSession(serve(factory))
    const say = (data: string) => factory.last.notify('notifications/message', { data })
    const broken = await client.get()
    await say('seen')
    expect((await broken.next())?.message.params.data).toBe('seen')
    await broken.cancel()
    await say('missed')
    await quiet()
    const resumed = await client.get(broken.lastEventId)
    await say('later')
    expect((await resumed.next())?.message.params.data).toBe('missed')
    expect((await resumed.next())?.message.params.data).toBe('later')
    await resumed.cancel()
  })

  test('another session’s event id: 400; an unknown session: 404', async () => {
    const handler = serve(scripted(), { responseMode: 'sse' })
    const alice = await openSession(handler)
    const bob = await openSession(handler)
    const { events } = await alice.request('ping')
    const headers = { 'last-event-id': events[0]?.id ?? '' }
    expect((await bob.send('GET', undefined, { headers }).then(read)).status).toBe(400)
    expect((await bob.send('GET', undefined, { headers, sessionId: 'unknown' }).then(read)).status).toBe(404)
  })

  test('no priming event for revisions whose clients cannot read one', async () => {
    const handler = serve(scripted(), { responseMode: 'sse' })
    for (const [protocolVersion, priming] of [
      ['2025-11-25', true],
      ['2025-06-18', false],
    ] as const) {
      const headers = { 'mcp-protocol-version': protocolVersion }
      const client = await openSession(handler, { protocolVersion, headers })
      const body = await (await client.send('POST', { jsonrpc: '2.0', id: 1, method: 'ping' })).text()
      expect(/^data: ?$/m.test(body), protocolVersion).toBe(priming)
    }
  })
})

test('a store of one’s own is a few methods, and needs neither event log nor bus', async () => {
  const records = new Map<string, string>()
  const sessions: SessionStore = {
    create: async (record) => !records.has(record.id) && !!records.set(record.id, JSON.stringify(record)),
    load: async (id) => JSON.parse(records.get(id) ?? 'null') ?? undefined,
    update: async (record) => records.has(record.id) && !!records.set(record.id, JSON.stringify(record)),
    touch: async (id) => records.has(id),
    delete: async (id) => records.delete(id),
    async *list() {
      for (const record of records.values()) yield JSON.parse(record)
    },
  }
  const client = await openSession(serve(scripted(), { backend: { sessions } }))
  client.on(serve(scripted(), { backend: { sessions } }))
  expect((await client.request('resources/subscribe', { uri: 'test://a' })).status).toBe(200)
  expect((await client.delete()).status).toBe(200)
  expect(records.size).toBe(0)
})
