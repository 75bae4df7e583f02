/** The journal: what of the client's messages is kept for the next instance, and stored before the client has its answer. */
import { describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { Backend } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve, stored } from '../harness/serve.js'
import { quiet } from '../harness/time.js'
import { CLIENT_INFO, initialize, openSession, WireClient } from '../harness/wire-client.js'

/** What a restored instance was told before the first request. */ async function told(
  client: WireClient,
  backend: Backend,
) {
  const factory = scripted()
  await client.on(serve(factory, { backend })).request('tools/list')
  return factory.last.messages
    .filter((message) => 'method' in message && message.method !== 'tools/list')
    .map((message) => ('method' in message ? [message.method, message.params] : []))
}

describe('the journal', () => {
  test('keeps the last level, each subscription once in the order it was made, and nothing else', async () => {
    const { backend, client } = await stored()
    const said: [method: string, params: Record<string, unknown>][] = [
      ['resources/subscribe', { uri: 'a' }],
      ['logging/setLevel', { level: 'debug' }],
      ['tools/call', { name: 'x' }],
      ['resources/subscribe', { uri: 'b' }],
      ['resources/subscribe', { uri: 'a' }],
      ['logging/setLevel', { level: 'error' }],
      ['resources/unsubscribe', { uri: 'never' }],
      ['resources/subscribe', { uri: 'c' }],
      ['resources/unsubscribe', { uri: 'a' }],
      ['resources/subscribe', { uri: 'a' }],
    ]
    for (const [method, params] of said) await client.request(method, params)
    expect((await backend.sessions.load(client.sessionId))?.record.journal).toEqual({
      initialize: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: CLIENT_INFO },
      initialized: true,
      setLevel: { level: 'error' },
      subscriptions: ['b', 'c', 'a'],
    })
  })

  test('is not stored again when nothing in it changes', async () => {
    const { backend, client } = await stored()
    await client.request('resources/subscribe', { uri: 'a' })
    await client.request('logging/setLevel', { level: 'debug' })
    backend.calls.reset()
    await client.request('resources/subscribe', { uri: 'a' })
    await client.request('resources/unsubscribe', { uri: 'b' })
    await client.request('logging/setLevel', { level: 'debug' })
    await client.notify('notifications/initialized')
    await client.request('ping')
    expect(backend.calls.count('sessions.update')).toBe(0)
  })

  test('is replayed compacted and in order, with what the client sent that a restore needs', async () => {
    const { backend, client } = await stored({ capabilities: { sampling: { x: 1 } } })
    await client.request('resources/subscribe', { uri: 'test://b' })
    await client.request('logging/setLevel', { level: 'debug' })
    await client.request('resources/subscribe', { uri: 'test://a' })
    await client.request('resources/subscribe', { uri: 'test://gone' })
    await client.request('logging/setLevel', { level: 'warning', _meta: { kept: false } })
    await client.request('resources/unsubscribe', { uri: 'test://gone' })
    await client.request('resources/subscribe', { uri: 'test://a' })
    const expected = [
      ['initialize', { protocolVersion: '2025-11-25', capabilities: { sampling: { x: 1 } }, clientInfo: CLIENT_INFO }],
      ['notifications/initialized', undefined],
      ['logging/setLevel', { level: 'warning' }],
      ['resources/subscribe', { uri: 'test://b' }],
      ['resources/subscribe', { uri: 'test://a' }],
    ]
    expect(await told(client, backend)).toEqual(expected)
    expect(await told(client, backend)).toEqual(expected)
  })

  test('has no log level that is none, and no URI that is no text, even if the server takes them', async () => {
    const { backend, client } = await stored()
    await client.request('logging/setLevel')
    await client.request('resources/subscribe')
    for (const level of ['trace', 5, null, { x: 'x' }, ['info']]) await client.request('logging/setLevel', { level })
    for (const uri of [5, null, {}, ['x']]) await client.request('resources/subscribe', { uri })
    const methods = (await told(client, backend)).map(([method]) => method)
    expect(methods).toEqual(['initialize', 'notifications/initialized'])
  })

  test('of a client that never said `initialized` does not say so', async () => {
    const backend = memory()
    const { sessionId } = await initialize(serve(scripted(), { backend }))
    const methods = (await told(new WireClient(serve(scripted()), sessionId ?? ''), backend)).map(([method]) => method)
    expect(methods).toEqual(['initialize'])
  })

  test('does not keep what the server refused', async () => {
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

  test('that a server refuses in part at the restore is no obstacle, and the trouble is told to onerror', async () => {
    const { backend, client } = await stored()
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
    const { backend, client } = await stored()
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
    const before = (await backend.sessions.load(client.sessionId))?.record
    const recover = backend.calls.fail('sessions.update', new Error('secret'))
    const failed = await client.request(method, params)
    expect(failed.status).toBe(503)
    expect(failed.retryAfter).toBeDefined()
    expect(JSON.stringify(failed.body)).not.toContain('secret')
    expect((await backend.sessions.load(client.sessionId))?.record).toEqual(before)
    expect((await client.request('ping')).status).toBe(200)
    recover()
    expect((await client.request(method, params)).body.result).toEqual({})
    expect((await backend.sessions.load(client.sessionId))?.record.ancestors?.at(-1)).toBe(before?.revision)
    expect(factory.servers).toHaveLength(1)
  })

  test('answered by a stream, when the store fails: an error in the stream', async () => {
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
    const handler = serve(factory, { backend })
    const { sessionId = '' } = await initialize(handler)
    const client = new WireClient(handler, sessionId)
    const recover = backend.calls.fail('sessions.update')
    expect((await client.notify('notifications/initialized')).status).toBe(503)
    expect(factory.last.methods).toEqual(['initialize'])
    recover()
    expect((await client.notify('notifications/initialized')).status).toBe(202)
    expect(factory.last.methods).toEqual(['initialize', 'notifications/initialized'])
  })

  test('stored though the answer was lost: 503, and the next one finds out that it is there', async () => {
    const backend = gated()
    const factory = scripted()
    const client = await openSession(serve(factory, { backend }))
    const gate = backend.calls.holdAnswer('sessions.update')
    const lost = client.request('resources/subscribe', { uri: 'test://a' })
    await gate.reached
    gate.fail()
    expect((await lost).status).toBe(503)
    expect((await client.request('resources/subscribe', { uri: 'test://b' })).status).toBe(200)
    expect((await backend.sessions.load(client.sessionId))?.record.journal.subscriptions).toEqual([
      'test://a',
      'test://b',
    ])
  })

  test('sent at once are journalled in the order in which they were answered', async () => {
    const { backend, client } = await stored()
    const uris = ['c', 'a', 'd', 'b'].map((name) => `test://${name}`)
    await Promise.all(uris.map((uri) => client.request('resources/subscribe', { uri })))
    expect((await backend.sessions.load(client.sessionId))?.record.journal.subscriptions).toEqual(uris)
  })
})
