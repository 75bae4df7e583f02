/** The transport by itself: it goes on with a session that it did not make, and its server sees one client all along. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { sqlite } from '../../src/backend/sqlite.js'
import { type Backend, currentSession, SessionTransport, type SessionTransportOptions } from '../../src/index.js'
import { DOORS, type Door, type DoorName, door, type Sent } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import type { Answer } from '../harness/reply.js'
import { ScriptedServer, UNANSWERED } from '../harness/scripted-server.js'
import { deferred } from '../harness/time.js'
import { type InitializeOptions, initializeMessage, openSession } from '../harness/wire-client.js'
import { SECRET } from './refusal.js'

const ping = (id: string | number = 1) => ({ id, method: 'ping' })

/** A transport with a scripted server, and a door to it. */
async function connected(name: DoorName, options: SessionTransportOptions = {}, hydrate?: 'before' | 'after' | 'both') {
  const { sessionId, ...rest } = options
  const transport = new SessionTransport(hydrate ? rest : options)
  onTestFinished(() => transport.close())
  const server = new ScriptedServer({ hold: () => UNANSWERED })
  const closed = vi.fn()
  if (hydrate === 'before' || hydrate === 'both') await transport.hydrate(sessionId as string)
  await server.connect(transport)
  const own = transport.onclose
  transport.onclose = () => {
    own?.()
    closed()
  }
  if (hydrate === 'after' || hydrate === 'both') await transport.hydrate(sessionId as string)
  const through = await door(name, {
    node: (req, res) => transport.handleRequest(req, res),
    fetch: (request, fetchOptions) => transport.handleRequest(request, fetchOptions),
  })
  return { transport, server, closed, door: through }
}

/** A transport that has begun its session. */
async function made(name: DoorName, backend: Backend, options: InitializeOptions = {}) {
  const at = await connected(name, { backend })
  return { ...at, client: await openSession(at.door, { capabilities: { sampling: {} }, ...options }) }
}

const send = async (to: Door, sent: Sent): Promise<Answer> => (await to.open(sent)).answer()

function expectRefused(answer: Answer, status: number, code: number): void {
  expect(answer).toMatchObject({ status, body: { jsonrpc: '2.0', error: { code } } })
}

describe.each(DOORS)('through the %s adapter', (name) => {
  describe.each([
    ['the sessionId option', undefined],
    ['hydrate before connect', 'before'],
    ['hydrate after connect', 'after'],
    ['hydrate twice', 'both'],
  ] as const)('a session made elsewhere, by %s', (_, way) => {
    test('tells its server what the one before was told, before any request', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      await client.post({ id: 5, method: 'logging/setLevel', params: { level: 'error' } })
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      expect(at.transport.sessionId).toBe(client.sessionId)
      expect(at.server.methods).toEqual(['initialize', 'notifications/initialized', 'logging/setLevel'])
      const { params } = initializeMessage({ capabilities: { sampling: {} } })
      expect(at.server.all('initialize')).toMatchObject([{ params }])
      const answer = await client.at(at.door).post(ping(9))
      expect(answer).toMatchObject({ status: 200, sessionId: client.sessionId, body: { id: 9, result: {} } })
      // once
      expect(at.server.methods.filter((method) => method === 'initialize')).toHaveLength(1)
    })

    test('validates the id: none 400, another 404, even one that exists', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      const other = await made(name, backend)
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
        expectRefused(await send(at.door, sent), 400, -32000)
        for (const id of [other.client.sessionId, randomUUID(), '__proto__']) {
          const answer = await send(at.door, { ...sent, headers: { 'mcp-session-id': id } })
          expectRefused(answer, 404, -32001)
          expect(answer.headers).not.toHaveProperty('mcp-session-id')
        }
      }
      expectRefused(await send(at.door, { body: initializeMessage() }), 400, -32600)
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
      expect((await other.client.post(ping())).status).toBe(200)
    })

    test('that is unknown: 404, and onclose, so that nobody keeps the transport', async () => {
      const id = randomUUID()
      const at = await connected(name, { backend: memory(), sessionId: id }, way)
      expectRefused(
        await send(at.door, { headers: { 'mcp-session-id': id }, body: { jsonrpc: '2.0', ...ping(3) } }),
        404,
        -32001,
      )
      expect(at.closed).toHaveBeenCalledTimes(1)
      expect(at.server.received.count).toBe(0)
    })

    test('is 503 while the store fails, and then fine', async () => {
      const backend = gated()
      const { client } = await made(name, backend)
      const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
        const answer = await client.at(at.door).send(sent)
        expectRefused(answer, 503, -32603)
        expect(answer.headers['retry-after']).toBe('1')
        expect(answer.text).not.toContain(SECRET)
      }
      expect(at.closed).not.toHaveBeenCalled()
      recover()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
      expect(at.server.methods).toEqual(['initialize', 'notifications/initialized', 'ping'])
    })

    test('is 503 while the store fails, and 404 with onclose if it is unknown when the store is back', async () => {
      const backend = gated()
      const id = randomUUID()
      const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
      const at = await connected(name, { backend, sessionId: id }, way)
      const sent = { headers: { 'mcp-session-id': id }, body: { jsonrpc: '2.0', ...ping() } }
      expectRefused(await send(at.door, sent), 503, -32603)
      recover()
      expectRefused(await send(at.door, sent), 404, -32001)
      expect(at.closed).toHaveBeenCalledTimes(1)
    })

    test('belongs to whom it belonged', async () => {
      const backend = memory()
      const headers = { authorization: 'Bearer app/alice' }
      const { client } = await made(name, backend, { headers })
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      for (const authorization of ['Bearer app/bob', 'Bearer other/alice', undefined]) {
        for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
          const answer = await client.at(at.door).send({ ...sent, headers: { authorization } })
          expectRefused(answer, 404, -32001)
          expect(answer.headers).not.toHaveProperty('mcp-session-id')
        }
      }
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
      expect((await client.at(at.door).delete()).status).toBe(200)
    })

    test('is not closed for its owner by whoever is turned away first', async () => {
      const backend = gated()
      const headers = { authorization: 'Bearer app/alice' }
      const { client } = await made(name, backend, { headers })
      const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      recover()
      expectRefused(
        await client.at(at.door).post(ping(), { headers: { authorization: 'Bearer app/bob' } }),
        404,
        -32001,
      )
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
    })

    test('that is anonymous is not served to anybody who is authenticated', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      expectRefused(
        await client.at(at.door).post(ping(), { headers: { authorization: 'Bearer app/alice' } }),
        404,
        -32001,
      )
      expect((await client.at(at.door).post(ping())).status).toBe(200)
    })
  })

  test('many requests at once to one that is not restored yet: one restore, all answered', async () => {
    const backend = gated()
    const { client } = await made(name, backend)
    const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
    const at = await connected(name, { backend, sessionId: client.sessionId })
    recover()
    const answers = await Promise.all(Array.from({ length: 8 }, (_, id) => client.at(at.door).post(ping(id))))
    expect(answers.map(({ status, body }) => [status, body.id])).toEqual(answers.map((_, id) => [200, id]))
    expect(at.server.methods.filter((method) => method === 'initialize')).toHaveLength(1)
  })

  test('before initialize there is no session: any id is 400, and sessionId is undefined', async () => {
    const at = await connected(name)
    expect(at.transport.sessionId).toBeUndefined()
    for (const headers of [{}, { 'mcp-session-id': randomUUID() }]) {
      for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
        expectRefused(await send(at.door, { ...sent, headers }), 400, -32000)
      }
    }
    expect((await send(at.door, { body: initializeMessage() })).status).toBe(200)
  })

  test('initialize with a stale session id begins the transport’s session', async () => {
    const at = await connected(name)
    const answer = await send(at.door, { headers: { 'mcp-session-id': randomUUID() }, body: initializeMessage() })
    expect(answer.status).toBe(200)
    expect(answer.headers['mcp-session-id']).toBe(at.transport.sessionId)
  })

  test('an initialize that met a store which was away can be sent again', async () => {
    const backend = gated()
    const at = await connected(name, { backend })
    const sent = { headers: { 'mcp-session-id': randomUUID() }, body: initializeMessage() }
    const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
    expectRefused(await send(at.door, sent), 503, -32603)
    expect(at.closed).not.toHaveBeenCalled()
    recover()
    expect((await send(at.door, sent)).status).toBe(200)
  })

  test('two initialize at once: one session, the other is told that there is one', async () => {
    const at = await connected(name)
    const answers = await Promise.all([
      send(at.door, { body: initializeMessage() }),
      send(at.door, { body: initializeMessage() }),
    ])
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400])
    expectRefused(answers.find(({ status }) => status !== 200) as Answer, 400, -32600)
  })

  test('sessionIdGenerator makes the id; onsessioninitialized is told it before the client', async () => {
    let told: string | undefined
    const held = deferred()
    const at = await connected(name, {
      sessionIdGenerator: () => 'my-id',
      onsessioninitialized: async (id) => {
        told = id
        await held.promise
      },
    })
    let answered = false
    const answer = send(at.door, { body: initializeMessage() }).finally(() => {
      answered = true
    })
    await vi.waitFor(() => expect(told).toBe('my-id'))
    expect(answered).toBe(false)
    expect(at.transport.sessionId).toBe('my-id')
    held.resolve()
    expect((await answer).headers['mcp-session-id']).toBe('my-id')
  })

  test('an onsessioninitialized that throws: 500, no id, no record', async () => {
    const backend = memory()
    const at = await connected(name, {
      backend,
      sessionIdGenerator: () => 'half-made',
      onsessioninitialized: () => {
        throw new Error(SECRET)
      },
    })
    const answer = await send(at.door, { body: initializeMessage() })
    expectRefused(answer, 500, -32603)
    expect(answer.headers).not.toHaveProperty('mcp-session-id')
    expect(answer.text).not.toContain(SECRET)
    await vi.waitFor(async () => expect(await backend.sessions.load('half-made')).toBeUndefined())
    expect(at.closed).toHaveBeenCalledTimes(1)
  })

  test('DELETE: onsessionclosed, then onclose, and the same transport is 404 from then on', async () => {
    const told: string[] = []
    const at = await connected(name, {
      onsessionclosed: async (id) => {
        told.push(id)
      },
    })
    const client = await openSession(at.door)
    const { sessionId: id } = client
    const get = await client.get()
    expect(await client.delete()).toMatchObject({ status: 200, headers: { 'mcp-session-id': id } })
    expect(told).toEqual([id])
    expect(at.closed).toHaveBeenCalledTimes(1)
    expect(await get.rest()).toEqual([])
    expect((await client.post(ping())).status).toBe(404)
    expect(at.closed).toHaveBeenCalledTimes(1)
  })

  test('DELETE through one transport ends the other one of the same session', async () => {
    const backend = memory()
    const first = await made(name, backend)
    const told: string[] = []
    const second = await connected(name, {
      backend,
      sessionId: first.client.sessionId,
      onsessionclosed: (id) => void told.push(id),
    })
    expect((await first.client.at(second.door).delete()).status).toBe(200)
    await vi.waitFor(() => expect(first.closed).toHaveBeenCalledTimes(1))
    expect((await first.client.post(ping())).status).toBe(404)
    expect(told).toEqual([first.client.sessionId])
  })

  test('close ends the transport, not the session', async () => {
    const backend = memory()
    const { transport, client, closed, server } = await made(name, backend)
    const get = await client.get()
    await transport.close()
    await transport.close()
    expect(closed).toHaveBeenCalledTimes(1)
    expect(await get.rest()).toEqual([])
    await expect(server.say('too late')).rejects.toThrow()
    const at = await connected(name, { backend, sessionId: client.sessionId })
    expect((await client.at(at.door).post(ping())).status).toBe(200)
  })

  test('a stream begun on one transport is resumed on the next, from the same backend', async () => {
    const backend = memory()
    const { client, server } = await made(name, backend)
    const first = await client.get()
    await server.say(1)
    const { id } = (await first.next()) ?? {}
    await first.leave()
    const at = await connected(name, { backend, sessionId: client.sessionId })
    await at.server.say(2)
    const resumed = await client.at(at.door).get(id)
    expect((await resumed.next())?.message.params.data).toBe(2)
    await at.server.say(3)
    expect((await resumed.next())?.message.params.data).toBe(3)
  })

  test('what the server asks is answered to the server', async () => {
    const { client, server } = await made(name, memory())
    const get = await client.get()
    await server.ask(0, 'roots/list')
    const asked = (await get.next())?.message
    expect((await client.post({ id: asked.id, result: { roots: [] } })).status).toBe(202)
    await server.answer(0)
  })

  test('currentSession() is there for handlers', async () => {
    const seen: unknown[] = []
    const transport = new SessionTransport()
    onTestFinished(() => transport.close())
    const server = new McpServerV2({ name: 's', version: '1' })
    server.registerTool('look', {}, (ctx) => {
      seen.push(currentSession().id, currentSession().restored, ctx.sessionId)
      return { content: [] }
    })
    await server.connect(transport)
    const through = await door(name, {
      node: (req, res) => transport.handleRequest(req, res),
      fetch: (request, options) => transport.handleRequest(request, options),
    })
    const client = await openSession(through)
    await client.request('tools/call', { name: 'look', arguments: {} })
    expect(seen).toEqual([client.sessionId, false, client.sessionId])
  })

  test('a session in SQLite outlives the transport and its backend', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'mcp-roam-transport-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const file = join(folder, 'sessions.db')
    const before = sqlite({ file })
    const { transport, client } = await made(name, before)
    await transport.close()
    await before.close?.()
    const backend = sqlite({ file })
    onTestFinished(async () => void (await backend.close?.()))
    const at = await connected(name, { backend, sessionId: client.sessionId })
    expect((await client.at(at.door).post(ping())).status).toBe(200)
  })
})

test('closeSSEStream and closeStandaloneSSEStream end a connection, and the client comes back for the rest', async () => {
  const at = await made('node', memory())
  const get = await at.client.get()
  await get.block()
  const pending = at.client.open({ id: 1, method: 'hold' })
  await at.server.got('hold')
  at.transport.closeSSEStream(1)
  at.transport.closeSSEStream('unknown')
  const stream = await pending
  const primed = await stream.block()
  expect(await stream.rest()).toEqual([])
  await at.transport.send({ jsonrpc: '2.0', id: 1, result: { done: true } })
  expect((await (await at.client.get(primed?.id)).rest()).map(({ message }) => message)).toMatchObject([{ id: 1 }])
  at.transport.closeStandaloneSSEStream()
  expect(await get.rest()).toEqual([])
})

test('what asks the SDK’s transport for no sessions at all is refused, not misunderstood', () => {
  const options = { sessionIdGenerator: undefined } as unknown as SessionTransportOptions
  expect(() => new SessionTransport(options)).toThrow(/sessionIdGenerator/)
})

test('a transport cannot be given a second session, or be started twice', async () => {
  const transport = new SessionTransport({ sessionId: 'one' })
  await transport.hydrate('one')
  await expect(transport.hydrate('two')).rejects.toThrow(/already/)
  await new ScriptedServer().connect(transport)
  await expect(new ScriptedServer().connect(transport)).rejects.toThrow(/already/)
  await transport.close()
})

test('a transport that no server was connected to answers 500, and tells onerror why', async () => {
  const errors: Error[] = []
  const transport = new SessionTransport({ onerror: (error) => errors.push(error) })
  const headers = { accept: '*/*', 'content-type': 'application/json' }
  const response = await transport.handleRequest(
    new Request('http://x/mcp', { method: 'POST', headers, body: JSON.stringify(initializeMessage()) }),
  )
  expect(response.status).toBe(500)
  expect(String(errors)).toMatch(/not connected/)
  await transport.close()
})
