/** What the Rust SDK proves of its session store and event store (rust-sdk PRs 775 and 1024), proved here, on every backend that needs no server. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Backend, SessionRecord } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { sqlite } from '../../src/backend/sqlite.js'
import type { ServerFactory } from '../../src/index.js'
import { createSessionHandler, type SessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import { deferred, gated, quiet } from './gated-store.js'
import { scripted } from './scripted-server.js'
import { EventStream, initialize, openSession, read, WireClient } from './wire-client.js'

vi.setConfig({ testTimeout: 10_000 })

let folder: string
let files = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcp-roam-rust-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const handlers: SessionHandler[] = []
afterEach(() => Promise.all(handlers.splice(0).map((handler) => handler.close())))

function serve(factory: ServerFactory, options: SessionHandlerOptions = {}): SessionHandler {
  const handler = createSessionHandler(factory, options)
  handlers.push(handler)
  return handler
}

async function all({ sessions }: Backend): Promise<SessionRecord[]> {
  const records: SessionRecord[] = []
  for await (const record of sessions.list()) records.push(record)
  return records
}

/** Each call of `open` is another node's connection to the same data. */
const BACKENDS: [string, () => { open(): Backend }][] = [
  [
    'memory',
    () => {
      const backend = memory()
      return { open: () => backend }
    },
  ],
  [
    'sqlite',
    () => {
      const file = join(folder, `${files++}.db`)
      return { open: () => sqlite({ file }) }
    },
  ],
]

describe.each(BACKENDS)('on %s', (_, make) => {
  test('initialize stores one record, with the client’s name in it', async () => {
    const store = make()
    const backend = store.open()
    const handler = serve(scripted(), { backend })
    const { sessionId } = await initialize(handler)
    const records = await all(backend)
    expect(records).toHaveLength(1)
    expect(records[0]).toMatchObject({ version: 1, id: sessionId, protocolVersion: '2025-11-25', principal: null })
    expect(records[0]?.journal.initialize.clientInfo).toMatchObject({ name: 'wire-client' })
  })

  test('calls store nothing more', async () => {
    const backend = gated(make().open())
    const client = await openSession(serve(scripted(), { backend }))
    backend.calls.reset()
    for (let i = 0; i < 10; i++) await client.request('tools/call', { name: 'x' })
    for (const change of ['create', 'update', 'delete']) expect(backend.calls.count(`sessions.${change}`)).toBe(0)
  })

  test('DELETE removes the record, and the session everywhere', async () => {
    const store = make()
    const backend = store.open()
    const client = await openSession(serve(scripted(), { backend }))
    const home = client.handler
    await client.on(serve(scripted(), { backend: store.open() })).request('ping')
    expect((await client.on(home).delete()).status).toBe(200)
    expect(await all(backend)).toEqual([])
    expect((await client.request('ping')).status).toBe(404)
    expect((await client.on(serve(scripted(), { backend: store.open() })).request('ping')).status).toBe(404)
  })

  test('instance A dies: B without the store says 404, B with it 200, under the same id', async () => {
    const store = make()
    const a = serve(scripted(), { backend: store.open() })
    const client = await openSession(a)
    await a.close()
    const stranger = serve(scripted(), { backend: make().open() })
    expect((await client.on(stranger).request('ping')).status).toBe(404)
    const factory = scripted()
    client.on(serve(factory, { backend: store.open() }))
    const answer = await client.request('ping')
    expect(answer.status).toBe(200)
    expect(answer.sessionId).toBe(client.sessionId)
    expect(factory.last.methods).toEqual(['initialize', 'notifications/initialized', 'ping'])
  })

  test('the restored instance replays the final answer that A gave, from the event log that they share', async () => {
    const store = make()
    const finished = deferred()
    const a = serve(
      scripted({
        'tools/call': async (request, server) => {
          await server.notify('notifications/message', { data: 'begun' }, request.id)
          await finished.promise
          return { done: 'by A' }
        },
      }),
      { backend: store.open() },
    )
    const client = await openSession(a)
    const broken = new EventStream(await client.send('POST', { jsonrpc: '2.0', id: 'x', method: 'tools/call' }))
    expect((await broken.next())?.message.params.data).toBe('begun')
    await broken.cancel()
    finished.resolve()
    await a.drain()
    await a.close()
    const factory = scripted()
    const b = serve(factory, { backend: store.open() })
    const resumed = await client.on(b).get(broken.lastEventId)
    expect((await resumed.rest()).map(({ message }) => message)).toEqual([
      { jsonrpc: '2.0', id: 'x', result: { done: 'by A' } },
    ])
    expect(factory.last.methods).not.toContain('tools/call')
  })
})

describe('what their design left open', () => {
  test('a session is not published before its handshake is replayed: a request that races a deploy is answered', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    const replaying = deferred()
    const factory = scripted({
      initialize: async (request) => {
        await replaying.promise
        return { protocolVersion: request.params?.protocolVersion, capabilities: {}, serverInfo: {} }
      },
    })
    client.on(serve(factory, { backend }))
    const racing = Array.from({ length: 10 }, () => client.request('tools/list'))
    await quiet()
    const late = client.request('tools/list')
    replaying.resolve()
    for (const { status } of await Promise.all([...racing, late])) expect(status).toBe(200)
    expect(factory.servers).toHaveLength(1)
    expect(factory.last.all('initialize')).toHaveLength(1)
  })

  test('who waits for a restore that fails is not told that the session is gone', async () => {
    const backend = gated()
    const client = await openSession(serve(scripted(), { backend }))
    const node = serve(scripted(), { backend })
    const gate = backend.calls.hold('sessions.load')
    const waiting = [1, 2, 3].map(() => client.on(node).request('ping'))
    await gate.reached
    await quiet()
    gate.fail()
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([503, 503, 503])
    expect((await client.request('ping')).status).toBe(200)
  })

  test('a failing factory leaves no zombie entry', async () => {
    const backend = memory()
    const client = await openSession(serve(scripted(), { backend }))
    let failures = 2
    const factory = scripted({}, () => {
      if (failures-- > 0) throw new Error('not yet')
    })
    const node = serve(factory, { backend })
    client.on(node)
    expect((await client.request('ping')).status).toBe(500)
    expect((await client.send('GET', undefined).then(read)).status).toBe(500)
    expect((await node.status()).liveSessions).toBe(0)
    expect((await client.request('ping')).status).toBe(200)
  })

  test('a store that fails at initialize is more than a warning', async () => {
    const backend = gated()
    backend.calls.fail('sessions.create')
    const answer = await initialize(serve(scripted(), { backend }))
    expect(answer.status).toBe(503)
    expect(answer.sessionId).toBeUndefined()
  })

  test('a failed handshake is not persisted', async () => {
    const backend = memory()
    const factory = scripted({
      initialize: () => {
        throw new Error('no')
      },
    })
    await initialize(serve(factory, { backend }))
    expect(await all(backend)).toEqual([])
  })

  test('the replay is not mistaken for the client: it has no stream, no id of the client’s, and its answers go nowhere', async () => {
    const backend = gated()
    const client = await openSession(serve(scripted(), { backend }))
    await client.request('resources/subscribe', { uri: 'test://a' })
    const factory = scripted()
    backend.calls.reset()
    const node = new WireClient(serve(factory, { backend, responseMode: 'sse' }), client.sessionId)
    const { events } = await node.post({ jsonrpc: '2.0', id: 0, method: 'ping' })
    expect(events.map(({ message }) => message)).toEqual([{ jsonrpc: '2.0', id: 0, result: {} }])
    expect(backend.calls.count('events.open')).toBe(1)
  })
})
