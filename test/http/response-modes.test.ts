/** How requests are answered: as JSON or as a stream, and what a stream is made of. */
import { describe, expect, test } from 'vitest'
import type { ResponseMode } from '../../src/index.js'
import { DOORS } from '../harness/door.js'
import { spreadFrom } from '../harness/sse.js'
import { fakeTime } from '../harness/time.js'
import { initializeMessage, type WireClient } from '../harness/wire-client.js'
import { stage } from './stage.js'
import { calling, messages, noStreamOpen, said, streaming } from './streams.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('responseMode auto', () => {
    test('an answer that comes first and quickly is JSON', async () => {
      const at = await stage(name)
      const client = await at.session()
      const answer = await client.post({ id: 1, method: 'echo', params: { x: 1 } })
      expect(answer).toMatchObject({ status: 200, headers: { 'content-type': 'application/json' } })
      expect(answer.body).toEqual({ jsonrpc: '2.0', id: 1, result: { echo: { x: 1 } } })
    })

    test('a related message makes it a stream: the message, then the answer, then the end', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      await call.say('a')
      const stream = await answer
      expect(stream.headers['content-type']).toBe('text/event-stream')
      await call.say('b')
      await call.answer()
      expect(messages(await stream.rest())).toMatchObject([...said('a', 'b'), { id: 1, result: { done: 1 } }])
    })

    test('a related request makes it a stream', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      await call.ask(0, 'sampling/createMessage')
      const stream = await answer
      expect((await stream.next())?.message).toMatchObject({ method: 'sampling/createMessage' })
      await call.answer()
      expect(messages(await stream.rest())).toMatchObject([{ id: 1 }])
    })

    test('a message that is related to nothing does not make it one', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      await at.server.say('to all')
      await call.answer()
      expect((await answer).headers['content-type']).toBe('application/json')
      expect((await (await client.get()).next())?.message).toMatchObject(said('to all')[0] as object)
    })

    test('an answer that is not there after upgradeAfter becomes a stream', async () => {
      const pass = fakeTime()
      const at = await stage(name, { upgradeAfter: 1000 })
      const client = await at.session()
      const early = await calling(at, client, 'early')
      await pass(999)
      await early.call.answer()
      const late = await calling(at, client, 'late')
      await pass(1000)
      await late.call.answer()
      expect((await early.answer).headers['content-type']).toBe('application/json')
      const stream = await late.answer
      expect(stream.headers['content-type']).toBe('text/event-stream')
      expect(messages(await stream.rest())).toMatchObject([{ id: 'late' }])
    })

    test('closeSSE makes it a stream and ends the connection; the client comes back for the answer', async () => {
      const at = await stage(name, { upgradeAfter: 60_000, retryInterval: 123 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      call.extra?.closeSSEStream?.()
      const stream = await answer
      const primed = await stream.block()
      expect(primed).toMatchObject({ id: expect.any(String), data: '', retry: spreadFrom(123) })
      expect(await stream.rest()).toEqual([])
      expect(at.server.methods).not.toContain('notifications/cancelled')
      await call.say('while nobody listens')
      const resumed = await client.get(primed?.id)
      await call.answer()
      const events = await resumed.rest()
      expect(messages(events)).toMatchObject([...said('while nobody listens'), { id: 1, result: { done: 1 } }])
      expect((await client.get(events.at(-1)?.id)).status).toBe(204)
    })

    test('closeSSE in the middle of a stream, twice, loses nothing', async () => {
      const at = await stage(name)
      const client = await at.session()
      const { stream, call, last } = await streaming(at, client, 1)
      await call.say('before')
      call.extra?.closeSSEStream?.()
      call.extra?.closeSSEStream?.()
      const events = await stream.rest()
      expect(messages(events)).toMatchObject(said('before'))
      const resumed = await client.get(events.at(-1)?.id ?? last)
      await call.say('after')
      expect((await resumed.next())?.message).toMatchObject(said('after')[0] as object)
      call.extra?.closeSSEStream?.()
      expect(await resumed.rest()).toEqual([])
      await call.answer()
      expect(messages(await (await client.get(last)).rest())).toMatchObject([...said('before', 'after'), { id: 1 }])
    })

    test('a message that is related to an answered request takes the standalone stream', async () => {
      const at = await stage(name)
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      await call.answer()
      await (await answer).text()
      await call.say('too late')
      expect((await (await client.get()).next())?.message).toMatchObject(said('too late')[0] as object)
    })
  })

  describe('responseMode sse', () => {
    test('every answer is a stream, primed, ended by the answer', async () => {
      const at = await stage(name, { responseMode: 'sse', retryInterval: 77 })
      const client = await at.session()
      const stream = await client.open({ id: 1, method: 'ping' })
      expect(stream).toMatchObject({ status: 200, sessionId: client.sessionId })
      expect(stream.headers['content-type']).toBe('text/event-stream')
      expect(stream.headers['cache-control']).toContain('no-cache')
      expect(await stream.block()).toMatchObject({ id: expect.any(String), data: '', retry: spreadFrom(77) })
      expect(await stream.block()).toMatchObject({ event: 'message', message: { id: 1, result: {} } })
      expect(await stream.block()).toBeUndefined()
    })

    test('the answer to initialize is a stream as well, with the session’s id', async () => {
      const at = await stage(name, { responseMode: 'sse' })
      const stream = await at.door.open({ body: initializeMessage() })
      expect(stream.headers['content-type']).toBe('text/event-stream')
      expect(stream.sessionId).toBeTruthy()
      expect(messages(await stream.rest())).toMatchObject([{ id: 'init', result: { protocolVersion: '2025-11-25' } }])
    })
  })

  describe('responseMode json', () => {
    test('what a handler says besides its answer takes the standalone stream', async () => {
      const pass = fakeTime()
      const at = await stage(name, { responseMode: 'json' })
      const client = await at.session()
      const get = await client.get()
      const { answer, call } = await calling(at, client, 1)
      await call.say('a')
      await call.ask(0, 'roots/list')
      call.extra?.closeSSEStream?.()
      await pass(60_000)
      expect((await get.next())?.message).toMatchObject(said('a')[0] as object)
      expect((await get.next())?.message).toMatchObject({ method: 'roots/list' })
      await call.answer()
      const stream = await answer
      expect(stream.headers['content-type']).toBe('application/json')
      expect(JSON.parse(await stream.text())).toEqual({ jsonrpc: '2.0', id: 1, result: { done: 1 } })
    })
  })

  describe('what a client learns before the first message', () => {
    test.each(['2025-03-26', '2025-06-18'])(
      'on %s: an id, in a form that it does not take for a message',
      async (version) => {
        const at = await stage(name)
        const client = await at.session({ version })
        const { answer, call } = await calling(at, client, 1)
        expect(call.extra?.closeSSEStream).toBeUndefined()
        expect(call.extra?.closeStandaloneSSEStream).toBeUndefined()
        await call.say('x')
        await call.answer()
        const get = await client.get()
        await at.server.say('y')
        expect(await get.block()).toEqual({
          id: expect.any(String),
          event: 'cursor',
          retry: expect.any(Number),
          data: '{}',
        })
        expect(await get.block()).toMatchObject({ event: 'message', message: { params: { data: 'y' } } })
        // clients of these revisions never come back for the answer to a POST
        expect(await (await answer).block()).toMatchObject({ event: 'message', message: { params: { data: 'x' } } })
        expect(await (await answer).block()).toMatchObject({ event: 'message', message: { id: 1 } })
      },
    )

    test('on 2025-11-25: an event without data, from which it can resume', async () => {
      const at = await stage(name, { upgradeAfter: 1 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      const stream = await answer
      const primed = await stream.block()
      expect(primed).toMatchObject({ id: expect.any(String), data: '', retry: spreadFrom(1000) })
      await stream.leave()
      await call.say('a')
      await call.answer()
      const events = await (await client.get(primed?.id)).rest()
      expect(messages(events)).toMatchObject([...said('a'), { id: 1 }])

      const get = await client.get()
      const start = await get.block()
      expect(start).toMatchObject({ id: expect.any(String), data: '' })
      await get.leave()
      await noStreamOpen(at)
      await at.server.say('y')
      expect((await (await client.get(start?.id)).next())?.message).toMatchObject(said('y')[0] as object)
    })
  })

  test('events come in the order in which they were sent, each with an id of its own', async () => {
    const at = await stage(name)
    const client = await at.session()
    const { answer, call } = await calling(at, client, 1)
    const numbers = Array.from({ length: 500 }, (_, n) => n)
    for (const n of numbers) void call.say(n)
    await call.answer()
    const events = await (await answer).rest()
    expect(messages(events).map(({ params }) => params?.data)).toEqual([...numbers, undefined])
    expect(new Set(events.map(({ id }) => id)).size).toBe(501)
    for (const { id } of events) expect(id).toMatch(/^[\x21-\x7e]+$/)
  })

  test('streams on which nothing is said are kept open by comments', async () => {
    const pass = fakeTime()
    const at = await stage(name, { keepAlive: 15_000, upgradeAfter: 0 })
    const client = await at.session()
    const get = await client.get()
    await get.block()
    const { answer } = await calling(at, client, 1)
    await pass(1)
    const post = await answer
    await post.block()
    for (let i = 0; i < 3; i++) {
      await pass(15_000)
      expect(await get.block()).toEqual({ comment: expect.any(String) })
      expect(await post.block()).toEqual({ comment: expect.any(String) })
    }
  })

  describe('a request that its client cancels', () => {
    const cancel = (client: WireClient, id: string | number) =>
      client.notify('notifications/cancelled', { requestId: id })

    test.each(['auto', 'json'] as ResponseMode[])(
      'while nothing was answered yet, responseMode %s: the POST ends without an answer',
      async (responseMode) => {
        const at = await stage(name, { responseMode, upgradeAfter: 60_000 })
        const client = await at.session()
        const { answer, call } = await calling(at, client, 1)
        expect((await cancel(client, 1)).status).toBe(202)
        const stream = await answer
        expect(stream.sessionId).toBe(client.sessionId)
        expect(await stream.text()).toBe('')
        await at.server.got('notifications/cancelled')
        // a handler that answers all the same is not heard, and the id is free again
        await call.answer()
        expect((await client.post({ id: 1, method: 'echo' })).body.result).toEqual({ echo: null })
      },
    )

    test('while it is a stream: the stream ends without an answer, and there is nothing left of it', async () => {
      const at = await stage(name)
      const client = await at.session()
      const { stream, call, last } = await streaming(at, client, 1)
      await cancel(client, 1)
      expect(await stream.rest()).toEqual([])
      await call.answer()
      expect((await client.get(last)).status).toBe(204)
    })

    test('and that is not there: accepted', async () => {
      const at = await stage(name)
      const client = await at.session()
      for (const id of [99, 'x', null, {}, '__proto__']) {
        expect((await cancel(client, id as string)).status).toBe(202)
      }
      expect((await client.post({ method: 'notifications/cancelled' })).status).toBe(202)
      expect((await client.post({ id: 1, method: 'ping' })).status).toBe(200)
    })
  })
})
