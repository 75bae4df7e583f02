/** Batches, which revision 2025-03-26 has. */
import { describe, expect, test } from 'vitest'
import { DOORS } from '../harness/door.js'
import { fakeTime } from '../harness/time.js'
import { expectRefusal } from './refusal.js'
import { notification, request, stage } from './stage.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('batches on 2025-03-26', () => {
    test('of requests, notifications and responses: all handled, requests in order, answered as one array', async () => {
      const at = await stage(name)
      const client = await at.session({ version: '2025-03-26' })
      await at.server.ask(0, 'roots/list')
      const asked = (await (await client.get()).next())?.message
      const before = at.server.received.count
      const answer = await client.send({
        body: [
          request(1, 'echo', { params: { n: 1 } }),
          notification('notifications/roots/list_changed'),
          { jsonrpc: '2.0', id: asked.id, result: { roots: [] } },
          request('two', 'ping'),
        ],
      })
      expect(answer).toMatchObject({
        status: 200,
        headers: { 'content-type': 'application/json', 'mcp-session-id': client.sessionId },
        body: [
          { jsonrpc: '2.0', id: 1, result: { echo: { n: 1 } } },
          { jsonrpc: '2.0', id: 'two', result: {} },
        ],
      })
      const received = at.server.received.all.slice(before).map(({ message }) => message)
      expect(received).toHaveLength(4)
      expect(received).toContainEqual(expect.objectContaining({ method: 'notifications/roots/list_changed' }))
      expect(received).toContainEqual(expect.objectContaining({ id: 0, result: { roots: [] } }))
      const requests = received.filter((message) => 'method' in message && 'id' in message)
      expect(requests).toMatchObject([{ id: 1 }, { id: 'two' }])
    })

    test('of one request: an array of one', async () => {
      const at = await stage(name)
      const client = await at.session({ version: '2025-03-26' })
      expect((await client.post([request(1)])).body).toEqual([{ jsonrpc: '2.0', id: 1, result: { echo: null } }])
    })

    test('without requests: 202', async () => {
      const at = await stage(name)
      const client = await at.session({ version: '2025-03-26' })
      const progress = notification('notifications/progress', { progressToken: 'x', progress: 1 })
      expect(await client.send({ body: [progress, progress] })).toMatchObject({ status: 202, text: '' })
    })

    test('answered as SSE when a message comes before the answers: each answer an event of its own', async () => {
      const at = await stage(name)
      const client = await at.session({ version: '2025-03-26' })
      const pending = client.open([request(1), request(2, 'hold'), request(3, 'hold')])
      const two = await at.call(2)
      const three = await at.call(3)
      await two.say('on the way')
      await three.answer()
      await two.answer()
      const messages = (await (await pending).rest()).map(({ message }) => message)
      expect(messages).toMatchObject([
        { id: 1, result: { echo: null } },
        { method: 'notifications/message', params: { data: 'on the way' } },
        { id: 3, result: { done: 3 } },
        { id: 2, result: { done: 2 } },
      ])
    })

    test('with one id twice, or the id of a request that still runs: refused whole', async () => {
      const at = await stage(name)
      const client = await at.session({ version: '2025-03-26' })
      const before = at.server.received.count
      expectRefusal(await client.send({ body: [request(1), request(1, 'ping')] }), 400, -32600, null)
      expect(at.server.received.count).toBe(before)
      const pending = client.open({ id: 5, method: 'hold' })
      const running = await at.call(5)
      const begun = at.server.received.count
      const changed = notification('notifications/roots/list_changed')
      expectRefusal(await client.send({ body: [changed, request(4), request(5)] }), 400, -32600, null)
      expect(at.server.received.count).toBe(begun)
      expectRefusal(await client.post(request(5)), 400, -32600, 5)
      await running.answer()
      expect((await (await pending).answer()).body).toMatchObject({ id: 5, result: { done: 5 } })
    })

    test('ids 1 and "1" are two', async () => {
      const at = await stage(name)
      const client = await at.session({ version: '2025-03-26' })
      const { body } = await client.post([request(1), request('1')])
      expect(body.map((answer: { id: unknown }) => answer.id)).toEqual([1, '1'])
    })

    test.each(['auto', 'sse', 'json'] as const)(
      'with a response that nothing waits for, %s: its answer ends, and the node goes on',
      async (responseMode) => {
        const pass = fakeTime()
        const at = await stage(name, { responseMode })
        const client = await at.session({ version: '2025-03-26' })
        const bogus = { jsonrpc: '2.0', id: 'nobody', result: {} }
        const answer = await client.open([request(1, 'hold'), bogus])
        if (answer.status !== 200) {
          // refused whole: what was begun of it, if anything, must not touch the answer again
          expect(answer.status).toBe(400)
          await answer.text()
          await pass(150)
          const [begun] = at.factory.received.all.filter(({ message }) => 'id' in message && message.id === 1)
          await begun?.server.respond({ id: 1 })
        } else await (await at.call(1)).answer()
        await answer.text()
        expect((await client.post(request(1))).status).toBe(200)
      },
    )
  })

  test.each([undefined, '2025-03-26'])(
    'a batch is taken from a client that names its version as %s',
    async (version) => {
      const at = await stage(name)
      const client = await at.session({ version: '2025-03-26' })
      const answer = await client.post([request(1), request(2)], { headers: { 'mcp-protocol-version': version } })
      expect(answer.body.map(({ id }: { id: unknown }) => id)).toEqual([1, 2])
    },
  )

  test('a batch answered by a stream (responseMode sse): one stream, an event for each answer', async () => {
    const at = await stage(name, { responseMode: 'sse' })
    const client = await at.session({ version: '2025-03-26' })
    const body = [1, 2, 3].map((id) => ({ jsonrpc: '2.0', id, method: 'ping' }))
    const stream = await client.raw({ body })
    expect((await stream.rest()).map(({ message }) => message.id)).toEqual([1, 2, 3])
  })

  test('a batch of which one request is cancelled: the others are answered', async () => {
    const at = await stage(name, { upgradeAfter: 60_000 })
    const client = await at.session({ version: '2025-03-26' })
    const body = ['a', 'b'].map((id) => ({ jsonrpc: '2.0', id, method: 'hold' }))
    const pending = client.send({ body })
    const a = await at.call('a')
    await at.call('b')
    await client.notify('notifications/cancelled', { requestId: 'b' })
    await a.answer()
    expect((await pending).body).toEqual([{ jsonrpc: '2.0', id: 'a', result: { done: 'a' } }])
  })
})
