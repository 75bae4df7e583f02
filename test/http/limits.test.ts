/** What a body may hold: what is over a limit is refused before anything is done, what is not is served. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { buildServer as buildV1 } from '../fixtures/server-v1.js'
import { buildServer as buildV2 } from '../fixtures/server-v2.js'
import { DOORS, door } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { oddRequest } from '../harness/odd-messages.js'
import { serve } from '../harness/serve.js'
import { initializeMessage, openSession } from '../harness/wire-client.js'
import { expectRefusal } from './refusal.js'
import { notification, request, stage } from './stage.js'

const LEVELS = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`

describe.each(DOORS)('through the %s adapter', (name) => {
  test('what is just within each limit is served', async () => {
    const at = await stage(name)
    const client = await at.session({
      version: '2025-03-26',
      capabilities: { experimental: { x: 'x'.repeat(65_000) } },
    })
    const batch = Array.from({ length: 100 }, (_, id) => request(id))
    expect((await client.post(batch)).body).toHaveLength(100)
    const deep = `{"jsonrpc":"2.0","id":5,"method":"echo","params":{"x":${LEVELS(126)}}}`
    expect((await client.send({ body: deep })).text).toContain(LEVELS(126))
    const long = 'x'.repeat(1024)
    const params = { _meta: { progressToken: long, 'example.com/unknown': { any: ['thing'] } }, more: 1 }
    expect((await client.post(request(long, 'echo', { params }))).body).toMatchObject({ id: long, result: {} })
    expect((await client.post(request(2 ** 53 - 1))).body).toMatchObject({ id: 2 ** 53 - 1 })
    expect((await client.post(request(1), { headers: { 'user-agent': 'x'.repeat(4096) } })).status).toBe(200)
  })

  test('a batch that is too long is refused before a message is run or the session looked for', async () => {
    const backend = gated(memory())
    const at = await stage(name, { backend })
    const client = await at.session({ version: '2025-03-26' })
    const before = at.server.received.count
    backend.calls.reset()
    const messages = Array.from({ length: 20_000 }, () => notification('notifications/x'))
    const elsewhere = { 'mcp-session-id': 'no session of anybody' }
    for (const headers of [{}, elsewhere]) {
      expectRefusal(await client.send({ body: messages, headers }), 400, -32600, null)
    }
    expect(at.server.received.count).toBe(before)
    expect(backend.calls.all).toEqual([])
  })

  test('the messages of a batch run in turns of the event loop', async () => {
    const turns: number[] = []
    let turn = 0
    const seen = () => {
      turns.push(turn)
      return {}
    }
    const at = await stage(name, {}, { 'tools/list': seen, 'notifications/x': seen })
    const client = await at.session({ version: '2025-03-26' })
    const count = () => {
      turn++
      counting = setImmediate(count)
    }
    let counting = setImmediate(count)
    const messages = [...Array(20).keys()].map((id) => request(id, 'tools/list'))
    const answer = await client.post([...messages, ...messages.map(() => notification('notifications/x'))])
    clearImmediate(counting)
    expect(answer.body.map(({ id }: { id: number }) => id)).toEqual([...Array(20).keys()])
    expect(turns).toHaveLength(40)
    expect(new Set(turns).size).toBe(40)
  })

  test('initialize that is too large is refused before the factory is called', async () => {
    const at = await stage(name, { limits: { initialize: 200 } })
    const large = initializeMessage({ capabilities: { experimental: { x: 'x'.repeat(200) } } })
    expectRefusal(await at.send({ body: large }), 413, -32000, 'init')
    expect(at.factory.servers).toEqual([])
    expect((await at.send({ body: initializeMessage() })).status).toBe(200)
  })

  test('a URI that is one character too many for the session is not subscribed to', async () => {
    const at = await stage(name, { limits: { subscriptions: 10 } })
    const client = await at.session()
    expect((await client.request('resources/subscribe', { uri: 'x:12345678' })).body.result).toEqual({})
    expect((await client.request('resources/subscribe', { uri: 'y' })).status).toBe(400)
    expect((await at.handler.sessions.get(client.sessionId))?.subscriptions).toEqual(['x:12345678'])
  })

  test.each([
    ['1.x', buildV1],
    ['2.x', buildV2],
  ])('whatever a client sends as a request, it is answered: SDK %s', { timeout: 60_000 }, async (_, build) => {
    const handler = serve(() => build(), { responseMode: 'json' })
    const client = await openSession(await door(name, handler))
    const statuses = new Map<number, number>()
    let ids = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          oddRequest(() => ++ids),
          { minLength: 20, maxLength: 20 },
        ),
        async (bodies) => {
          const answers = await Promise.all(bodies.map((body) => client.send({ body })))
          for (const { status } of answers) statuses.set(status, (statuses.get(status) ?? 0) + 1)
        },
      ),
      { numRuns: 20, endOnFailure: true },
    )
    expect([...statuses.keys()].sort()).toEqual([200, 400])
  })
})

test('a body that something in front has parsed has the same limits', async () => {
  const at = await stage('fetch')
  const client = await at.session({ version: '2025-03-26' })
  const { headers = {} } = client.with({})
  const init = {
    method: 'POST',
    headers: { accept: '*/*', 'content-type': 'application/json', ...headers } as Record<string, string>,
  }
  const post = async (parsedBody: unknown) => {
    const response = await at.handler.fetch(new Request('http://x/mcp', init), { parsedBody })
    return { status: response.status, ...((await response.json()) as object) }
  }
  const params = { x: JSON.parse(LEVELS(100_000)) }
  expect(await post(request(5, 'echo', { params }))).toMatchObject({ status: 400, id: 5, error: { code: -32600 } })
  const batch = Array.from({ length: 101 }, (_, id) => request(id))
  expect(await post(batch)).toMatchObject({ status: 400, id: null, error: { code: -32600 } })
  expect(await post(Buffer.alloc(4_000_000))).toMatchObject({ status: 400, error: { code: -32600 } })
})

test('a request of a batch that is cancelled before its turn is not run', async () => {
  const at = await stage('fetch', {}, { first: () => cancel() })
  const client = (await at.session({ version: '2025-03-26' })).on(at.handler)
  let cancelled: Promise<unknown> | undefined
  const cancel = () => {
    cancelled = client.notify('notifications/cancelled', { requestId: 'last' })
    return {}
  }
  const waiting = [...Array(90).keys()].map((id) => request(id))
  const { body } = await client.post([request('first', 'first'), ...waiting, request('last', 'hold')])
  expect(body).toHaveLength(91)
  expect(await cancelled).toMatchObject({ status: 202 })
  expect(at.server.all('hold')).toEqual([])
})
