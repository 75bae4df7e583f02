/** The transport by itself: it goes on with a session that it did not make, and its server sees one client all along. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { sqlite } from '../../src/backend/sqlite.js'
import { currentSession, SessionTransport, type SessionTransportOptions } from '../../src/index.js'
import { DOORS, door } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import type { Answer } from '../harness/reply.js'
import { ScriptedServer } from '../harness/scripted-server.js'
import { deferred } from '../harness/time.js'
import { initializeMessage, openSession } from '../harness/wire-client.js'
import { until } from '../harness/within.js'
import { connected, expectRefused, made, ping, send, WAYS } from './connected.js'
import { SECRET } from './refusal.js'

describe.each(DOORS)('through the %s adapter', (name) => {
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
      for (const sent of WAYS) {
        expectRefused(await send(at.door, { ...sent, headers }), 400, -32000)
      }
    }
    expect((await send(at.door, { body: initializeMessage() })).status).toBe(200)
  })

  test('what is over a limit is refused, with its status, and the transport is still to be had', async () => {
    const at = await connected(name, { limits: { initialize: 200, id: 10, batch: 2 } })
    const large = initializeMessage({ capabilities: { experimental: { x: 'x'.repeat(200) } } })
    expectRefused(await send(at.door, { body: large }), 413, -32000)
    expectRefused(await send(at.door, { body: { ...initializeMessage(), id: 'x'.repeat(11) } }), 400, -32600)
    expectRefused(await send(at.door, { body: { ...initializeMessage(), extra: 1 } }), 400, -32600)
    const deep = JSON.stringify(initializeMessage()).replace('{}', `{"x":${'['.repeat(1e5)}${']'.repeat(1e5)}}`)
    expectRefused(await send(at.door, { body: deep }), 400, -32600)
    expectRefused(
      await send(at.door, { body: initializeMessage(), headers: { accept: 'x'.repeat(5000) } }),
      431,
      -32000,
    )
    expect(at.server.messages).toEqual([])
    expect(at.closed).not.toHaveBeenCalled()
    const client = await openSession(at.door, { version: '2025-03-26' })
    expectRefused(await client.post([ping(1), ping(2), ping(3)]), 400, -32600)
    expect((await client.post([ping(1), ping(2)])).body).toHaveLength(2)
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
    await until(() => told === 'my-id')
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
    await until(async () => (await backend.sessions.load('half-made')) === undefined)
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
    await until(() => first.closed.mock.calls.length > 0)
    expect(first.closed).toHaveBeenCalledTimes(1)
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
    expect(await get.untilGone()).toEqual({ events: [], broken: true })
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
