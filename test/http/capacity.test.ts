/** How many of each: requests, streams and sessions beyond a limit are refused, and what is there goes on. */
import { describe, expect, test } from 'vitest'
import type { RequestId, Transport } from '../../src/index.js'
import { DOORS } from '../harness/door.js'
import { initialize, type WireClient } from '../harness/wire-client.js'
import { until } from '../harness/within.js'
import { expectRefusal, fail } from './refusal.js'
import { type Call, request, type Stage, stage } from './stage.js'
import { calling, said } from './streams.js'

const BATCHES = { version: '2025-03-26' }

/** A call that runs until the test answers it. */
async function hold(at: Stage, client: WireClient, id: string | number) {
  const answer = client.post({ id, method: 'hold' })
  return { answer, call: await at.call(id) }
}

/** Sends the client of a call away from its stream, as servers of line 1 can. */
function closeStream({ server, request }: Call): void {
  ;(server.transport as Transport & { closeSSEStream(id: RequestId): void }).closeSSEStream(request.id)
}

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('limits.requests', () => {
    test('one more request than may run is refused, and may run when another has ended', async () => {
      const at = await stage(name, { limits: { requests: 2 }, responseMode: 'json' })
      const client = await at.session()
      const first = await hold(at, client, 1)
      const second = await hold(at, client, 2)
      const refused = await client.post(request(3))
      expectRefusal(refused, 429, -32000, 3)
      expect(refused.headers).toMatchObject({ 'retry-after': '1', 'mcp-session-id': client.sessionId })
      expect(at.server.all('echo')).toEqual([])
      await first.call.answer()
      expect((await first.answer).status).toBe(200)
      expect((await client.post(request(3))).status).toBe(200)
      await second.call.answer()
      expect((await second.answer).body.result).toEqual({ done: 2 })
      expect((await at.handler.status()).refused.tooManyRequests).toBe(1)
    })

    test('what is no request gets through, and other sessions have their own', async () => {
      const at = await stage(name, { limits: { requests: 1 }, responseMode: 'json' })
      const client = await at.session()
      const other = await at.session()
      const { answer, call } = await hold(at, client, 1)
      expect((await client.notify('notifications/roots/list_changed')).status).toBe(202)
      expect((await other.post(request(1))).status).toBe(200)
      await client.notify('notifications/cancelled', { requestId: 1 })
      await call.answer()
      await answer
      expect((await client.post(request(2))).status).toBe(200)
    })

    test('a batch counts its requests, and is refused whole', async () => {
      const at = await stage(name, { limits: { requests: 2 }, responseMode: 'json' })
      const client = await at.session(BATCHES)
      const { answer, call } = await hold(at, client, 1)
      const note = { method: 'notifications/roots/list_changed' }
      expectRefusal(await client.post([note, request(2), request(3)]), 429, -32000, null)
      expect(at.server.methods).not.toContain(note.method)
      expect(at.server.all('echo')).toEqual([])
      expect((await client.post([note, request(2)])).status).toBe(200)
      await call.answer()
      expect((await answer).status).toBe(200)
    })

    test('a batch that no waiting could make room for is refused for good', async () => {
      const at = await stage(name, { limits: { requests: 2 } })
      const client = await at.session(BATCHES)
      const refused = await client.post([request(1), request(2), request(3)])
      expectRefusal(refused, 400, -32600, null)
      expect(refused.headers['retry-after']).toBeUndefined()
    })
  })

  describe('limits.streams and limits.allStreams', () => {
    test('one more stream than a session may have is refused; its other requests are served', async () => {
      const at = await stage(name, { limits: { streams: 1 }, upgradeAfter: 0 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      const stream = await answer
      expect(stream.isStream).toBe(true)
      const refused = await client.get()
      expectRefusal(await refused.answer(), 429, -32000, null)
      expect(refused.headers['retry-after']).toBe('1')
      expect((await (await at.session()).get()).status).toBe(200)
      await call.answer()
      expect(await stream.rest()).toMatchObject([{ message: { id: 1 } }])
      expect((await client.get()).status).toBe(200)
      expect((await at.handler.status()).refused.tooManyStreams).toBe(1)
    })

    test('one more than the node may have is refused, and so on until one has ended', async () => {
      const at = await stage(name, { limits: { allStreams: 1 } })
      const [client, other] = [await at.session(), await at.session()]
      const stream = await client.get()
      const refused = await other.get()
      expectRefusal(await refused.answer(), 503, -32603, null)
      expect(refused.headers['retry-after']).toBe('1')
      await stream.leave()
      await until(async () => (await at.handler.status()).openStreams === 0, 'no stream is open')
      expect((await other.get()).status).toBe(200)
      expect((await at.handler.status()).refused.full).toBe(1)
    })

    test.each([{ streams: 1 }, { allStreams: 1 }])(
      'of %o: a newer connection replaces the older one',
      async (limits) => {
        const at = await stage(name, { limits })
        const client = await at.session()
        const older = await client.get()
        for (let i = 0; i < 3; i++) {
          const newer = await client.get()
          expect(newer.status).toBe(200)
          await at.server.say(i)
          expect((await newer.next())?.message).toMatchObject(said(i)[0] ?? {})
        }
        expect(await older.rest()).toEqual([])
        expect((await at.handler.status()).openStreams).toBe(1)
      },
    )

    test.each(['auto', 'sse'] as const)(
      'a call that would become a stream (%s) is answered by JSON; what it says meanwhile takes the standalone stream',
      async (responseMode) => {
        const at = await stage(name, { limits: { streams: 1 }, upgradeAfter: 0, responseMode })
        const client = await at.session()
        const standalone = await client.get()
        const { answer, call } = await calling(at, client, 1)
        await call.say('meanwhile')
        expect((await standalone.next())?.message).toMatchObject(said('meanwhile')[0] ?? {})
        closeStream(call)
        await call.answer({ kept: true })
        const reply = await answer
        expect(reply.isStream).toBe(false)
        expect((await reply.answer()).body).toMatchObject({ id: 1, result: { kept: true } })
      },
    )

    test('a stream whose client was sent away is resumed, and counts again', async () => {
      const at = await stage(name, { limits: { streams: 1 }, upgradeAfter: 0 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      const stream = await answer
      const primed = await stream.block()
      closeStream(call)
      await stream.rest()
      const resumed = await client.get(primed?.id)
      expect(resumed.status).toBe(200)
      expect((await client.get()).status).toBe(429)
      await call.answer()
      expect(await resumed.rest()).toMatchObject([{ message: { id: 1 } }])
    })

    test('a drain hands over also what was kept from becoming a stream', async () => {
      const at = await stage(name, { limits: { streams: 1 }, upgradeAfter: 0 })
      const client = await at.session()
      await client.get()
      const { answer } = await calling(at, client, 1)
      await at.handler.drain({ timeout: 0 })
      const stream = await answer
      expect(stream.isStream).toBe(true)
      expect((await stream.block())?.id).toBeDefined()
    })
  })

  describe('rateLimit', () => {
    test('is asked for each initialize with its context, and the client told to wait in whole seconds', async () => {
      const waits = [undefined, 0, -1, 1, 1001]
      const asked: unknown[] = []
      const at = await stage(name, {
        rateLimit: async ({ authInfo, request }) => {
          asked.push([authInfo?.clientId, new URL(request.url).pathname])
          return waits.shift()
        },
      })
      const headers = { authorization: 'Bearer somebody' }
      for (let i = 0; i < 3; i++) expect((await initialize(at.door, { headers })).status).toBe(200)
      const built = at.factory.servers.length
      for (const seconds of ['1', '2']) {
        const answer = await initialize(at.door, { headers })
        expectRefusal(answer, 429, -32000, 'init')
        expect(answer.retryAfter).toBe(seconds)
      }
      expect(asked).toEqual(Array(5).fill(['somebody', '/mcp']))
      expect(at.factory.servers).toHaveLength(built)
      expect((await at.handler.status()).refused.rateLimited).toBe(2)
      expect((await at.handler.status()).liveSessions).toBe(3)
    })

    test('one that throws, or returns no number, is answered 500, and onerror told', async () => {
      const results = [fail, () => 'soon' as unknown as number, () => Number.POSITIVE_INFINITY]
      const at = await stage(name, { rateLimit: () => results.shift()?.() })
      for (let i = 1; i <= 3; i++) {
        expectRefusal(await initialize(at.door), 500, -32603, 'init')
        expect(at.errors).toHaveLength(i)
      }
      expect(at.factory.servers).toEqual([])
    })

    test('is not asked about anything else', async () => {
      let asked = 0
      const at = await stage(name, {
        rateLimit: () => {
          asked++
          return undefined
        },
      })
      const client = await at.session()
      await client.post(request(1))
      await client.get()
      await client.delete()
      expect(asked).toBe(1)
    })
  })

  describe('limits.event', () => {
    const long = 'x'.repeat(2000)

    test.each(['json', 'sse'] as const)(
      'a longer answer (%s) becomes an error of its request',
      async (responseMode) => {
        const at = await stage(name, { limits: { event: 1000 }, responseMode }, { big: () => ({ long }) })
        const client = await at.session()
        const { status, body } = await client.request('big')
        expect(status).toBe(200)
        expect(body).toMatchObject({ id: 1, error: { code: -32603, message: expect.stringContaining('larger') } })
        expect(at.errors).toHaveLength(1)
        expect(at.errors[0]?.message).toMatch(/1000/)
        expect((await client.request('echo')).status).toBe(200)
      },
    )

    test('send rejects what else is longer, and nothing waits for an answer to it', async () => {
      const at = await stage(name, { limits: { event: 1000 } })
      const client = await at.session()
      const stream = await client.get()
      await expect(at.server.say(long)).rejects.toThrow('1000')
      await expect(at.server.ask(1, 'roots/list', { long })).rejects.toThrow('1000')
      await at.server.say('short')
      expect((await stream.next())?.message).toMatchObject(said('short')[0] ?? {})
    })
  })

  test('limits.principal: a session too many of one principal is refused, with others it is not', async () => {
    const at = await stage(name, { limits: { principal: 2 } })
    const as = (who: string) => ({ headers: { authorization: `Bearer ${who}` } })
    const [first, second] = [await at.session(as('a')), await at.session(as('a'))]
    const streams = [await first.get(), await second.get()]
    const refused = await initialize(at.door, as('a'))
    expectRefusal(refused, 429, -32000, 'init')
    expect(refused.retryAfter).toBe('1')
    expect((await initialize(at.door, as('b'))).status).toBe(200)
    await streams[0]?.leave()
    await until(async () => (await at.handler.status()).openStreams === 1, 'one stream is open')
    expect((await initialize(at.door, as('a'))).status).toBe(200)
    expect((await at.handler.status()).liveSessions).toBe(3)
    expect((await at.handler.status()).refused.tooManySessions).toBe(1)
    // it went from memory only, and comes back when there is room
    expect((await first.post(request(1))).status).toBe(200)
  })

  test('maxLiveSessions: while all are in use a new session, or a restore, is refused', async () => {
    const at = await stage(name, { maxLiveSessions: 2 })
    const [first, second] = [await at.session(), await at.session()]
    const stream = await first.get()
    await second.get()
    const refused = await initialize(at.door)
    expectRefusal(refused, 503, -32603, 'init')
    expect(refused.retryAfter).toBe('1')
    expect((await first.post(request(1))).status).toBe(200)
    await stream.leave()
    await until(async () => (await at.handler.status()).openStreams === 1, 'one stream is open')
    const third = await at.session()
    await third.get()
    // the first one went for it, and there is no room for it now
    expectRefusal(await first.post(request(2)), 503, -32603, 2)
    await third.delete()
    expect((await first.post(request(2))).status).toBe(200)
    expect((await at.handler.status()).refused.full).toBe(2)
  })
})
