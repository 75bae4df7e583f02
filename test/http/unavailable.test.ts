/** What fails behind the door: a store that is away is 503, a fault of ours 500, and neither gives anything away. */
import { McpServer } from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { SessionHandlerOptions } from '../../src/index.js'
import { DOORS, door } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import type { Answer } from '../harness/reply.js'
import { scripted } from '../harness/scripted-server.js'
import { serve, sessionIds } from '../harness/serve.js'
import { fakeTime } from '../harness/time.js'
import { initializeMessage, openSession } from '../harness/wire-client.js'
import { within } from '../harness/within.js'
import { expectRefusal, fail, SECRET } from './refusal.js'
import { notification, request, stage } from './stage.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('a store that fails', () => {
    const error = new Error(`postgres://app:${SECRET}@db: connection refused`)
    const failures: Record<string, () => Promise<never>> = {
      rejecting: () => Promise.reject(error),
      throwing: () => {
        throw error
      },
      'never answering': () => new Promise(() => {}),
    }

    function expectUnavailable(answer: Answer, id: string | number | null): void {
      expectRefusal(answer, 503, -32603, id)
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
      expect(answer.text).not.toMatch(/postgres|refused|load|create/)
    }

    test.each(Object.keys(failures))('by %s: 503 with Retry-After, and fine when it is back', async (kind) => {
      const backend = gated()
      const failure = failures[kind] as (typeof failures)[string]
      const options = { backend, backendTimeout: 50 }
      const before = await stage(name, options)
      const client = await before.session()
      const after = await stage(name, options)
      const there = client.at(after.door)

      const recover = backend.calls.replace('sessions', failure)
      expectUnavailable(await there.post(request(1)), 1)
      expectUnavailable(await there.post(notification('notifications/roots/list_changed')), null)
      expectUnavailable(await there.send({ method: 'GET' }), null)
      expectUnavailable(await there.delete(), null)
      expectUnavailable(await client.delete(), null)
      const initialized = await before.send({ body: initializeMessage() })
      expectUnavailable(initialized, 'init')
      expect(initialized.headers).not.toHaveProperty('mcp-session-id')
      expect(before.server.closed).toBe(true)
      // a live session goes on, as long as nothing has to be kept
      expect((await client.post(request(2))).status).toBe(200)
      const kept = await client.post(request(3, 'logging/setLevel', { params: { level: 'error' } }))
      expectUnavailable(kept, 3)
      expect(kept.headers['mcp-session-id']).toBe(client.sessionId)
      const causes = before.errors.map(({ cause }) => String(cause))
      expect(causes.length).toBeGreaterThan(0)
      if (kind !== 'never answering') expect(causes.join()).toContain(SECRET)

      recover()
      expect((await there.post(request(4))).status).toBe(200)
      expect((await client.post(request(5, 'logging/setLevel', { params: { level: 'error' } }))).status).toBe(200)
      expect(await sessionIds(before.handler)).toEqual([client.sessionId])
    })

    test('a 503 of a live session carries its id', async () => {
      const backend = gated()
      const at = await stage(name, { backend })
      const answer = await at.send({ body: initializeMessage() })
      const id = answer.headers['mcp-session-id'] as string
      backend.calls.fail('sessions')
      const refused = await at.send({
        headers: { 'mcp-session-id': id },
        body: notification('notifications/initialized'),
      })
      expectUnavailable(refused, null)
      expect(refused.headers['mcp-session-id']).toBe(id)
    })
  })

  test.each([
    ['the factory', { factory: true }],
    ['onSessionInitialized', { onSessionInitialized: fail }],
    ['principal', { principal: fail }],
    ['sessionIdGenerator', { sessionIdGenerator: fail }],
    ['sessionIdGenerator, by an id that is not visible ASCII', { sessionIdGenerator: () => 'a b' }],
  ] as [string, SessionHandlerOptions & { factory?: boolean }][])(
    'what fails in %s is told to onerror, and to the client as 500',
    async (_, { factory, ...options }) => {
      const errors: Error[] = []
      const handler = serve(factory ? fail : () => new McpServer({ name: 's', version: '1' }), {
        ...options,
        onerror: (error) => errors.push(error),
      })
      const answer = await (await (await door(name, handler)).open({ body: initializeMessage() })).answer()
      expectRefusal(answer, 500, -32603, 'init')
      expect(answer.body.error.message).toBe('Internal error')
      expect(answer.headers).not.toHaveProperty('mcp-session-id')
      expect(errors).toHaveLength(1)
    },
  )

  test('a principal that cannot be told is 500 on a live session, and the session goes on', async () => {
    let broken = false
    const principal = async () => (broken ? fail() : 'alice')
    // which ends a process
    const unhandled: unknown[] = []
    const note = (error: unknown) => unhandled.push(error)
    process.on('unhandledRejection', note)
    onTestFinished(() => void process.off('unhandledRejection', note))
    const at = await stage(name, { principal })
    const client = await at.session()
    broken = true
    for (const sent of [{ body: request(1) }, { body: notification('notifications/roots/list_changed') }]) {
      expectRefusal(await client.send(sent), 500, -32603, 'id' in sent.body ? 1 : null)
    }
    expectRefusal(await client.send({ method: 'GET' }), 500, -32603, null)
    expectRefusal(await client.delete(), 500, -32603, null)
    broken = false
    expect((await client.post(request(2))).status).toBe(200)
    expect(unhandled).toEqual([])
  })

  test('what the factory throws in a restore is 500, told to onerror, and the session goes on', async () => {
    const backend = memory()
    const before = await stage(name, { backend })
    const client = await before.session()
    let broken = true
    const errors: Error[] = []
    const handler = serve(() => (broken ? fail() : new McpServer({ name: 's', version: '1' })), {
      backend,
      onerror: (error) => errors.push(error),
    })
    const there = client.at(await door(name, handler))
    expectRefusal(await there.post(request(1, 'ping')), 500, -32603, 1)
    expect(String(errors)).toContain(SECRET)
    broken = false
    expect((await there.post(request(2, 'ping'))).status).toBe(200)
  })

  test('a POST that the server throws at is 500, once: nothing begins its answer again, and its id is free', async () => {
    const pass = fakeTime()
    const factory = scripted()
    const handler = serve(async (context) => {
      const server = await factory(context)
      return {
        close: () => server.close(),
        connect: async (transport) => {
          await server.connect(transport)
          const { onmessage } = transport
          transport.onmessage = (message, extra) => {
            if ('method' in message && message.method === 'tools/call') throw new Error('no')
            onmessage?.(message, extra)
          }
        },
      }
    })
    const client = await openSession(await door(name, handler))
    expect((await client.post({ id: 1, method: 'tools/call' })).status).toBe(500)
    // an answer that is begun twice throws, here in a timer
    await pass(1000)
    expect((await client.post({ id: 1, method: 'ping' })).status).toBe(200)
  })

  test('a first heartbeat that fails: when the bus is back, a node hears each message once', async () => {
    const backend = gated()
    const at = await stage(name, { backend })
    const recover = backend.calls.fail('bus.beat')
    for (let n = 0; n < 3; n++) expect((await at.send({ body: initializeMessage() })).status).toBe(503)
    recover()
    await at.session()
    // To its own topic, and to that of all nodes.
    expect(backend.calls.count('bus.subscribe')).toBe(2)
  })

  test('a draining node sends requests elsewhere, and lets through what running ones wait for', async () => {
    const at = await stage(name)
    const client = await at.session()
    const pending = client.open({ id: 1, method: 'hold' })
    const call = await at.call(1)
    await call.ask(0, 'roots/list')
    const sse = await pending
    const asked = (await sse.next())?.message
    const drained = at.handler.drain()
    for (const sent of [{ body: request(2) }, { body: initializeMessage() }, { method: 'GET' }]) {
      const answer = await client.send(sent)
      expect(answer.status).toBe(503)
      expect(answer.headers['retry-after']).toBe('1')
    }
    expect((await client.post({ id: asked.id, result: { roots: [] } })).status).toBe(202)
    await call.answer()
    expect(await sse.next()).toMatchObject({ message: { id: 1 } })
    await within(drained, 'the drain')
  })

  test.each([
    { agent: 'a client of 2025-11-25', userAgent: 'node', version: '2025-11-25', answered: false },
    { agent: 'the AI SDK', userAgent: 'me ai-sdk/1.0.101 runtime/node.js/v20', version: '2025-11-25', answered: true },
    { agent: 'a client of 2025-06-18', userAgent: 'node', version: '2025-06-18', answered: true },
  ])(
    'a call of $agent that outlasts a drain is answered there: $answered',
    async ({ userAgent, version, answered }) => {
      const at = await stage(name)
      const client = await at.session({ version, headers: { 'user-agent': userAgent } })
      const pending = client.open({ id: 1, method: 'hold' })
      const call = await at.call(1)
      await call.say('begun')
      const sse = await pending
      await within(at.handler.drain({ timeout: 0 }), 'the drain')
      const [begun, ...rest] = (await sse.rest()).map(({ message }) => message)
      expect(begun.params.data).toBe('begun')
      expect(rest.map(({ error }) => error.data.reason)).toEqual(answered ? ['outcome-unknown'] : [])
      expect(call.extra?.closeSSEStream !== undefined).toBe(!answered)
    },
  )
})
