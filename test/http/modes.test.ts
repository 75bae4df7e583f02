/** How requests are answered, and what becomes of a stream when its connection goes: through both adapters. */
import net from 'node:net'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { Backend, ResponseMode } from '../../src/index.js'
import { parseEventId, sessionTag } from '../../src/stream/event-id.js'
import { within } from '../harness/within.js'
import { type Call, type Client, initialize, type Stage, stage } from './puppet.js'
import { DOORS, listen, type SseEvent, Stream } from './raw.js'

const hold = (id: string | number) => ({ id, method: 'hold' })
const messages = (events: SseEvent[]) => events.map(({ message }) => message)
const ids = (events: SseEvent[]) => events.map(({ id }) => id)
const said = (...data: unknown[]) => data.map((each) => ({ method: 'notifications/message', params: { data: each } }))

/** A request on its way: the answer to come, and the call at the server. */
async function calling(
  at: Stage,
  client: Client,
  id: string | number,
): Promise<{ answer: Promise<Stream>; call: Call }> {
  const answer = client.open(hold(id))
  answer.catch(() => {})
  return { answer, call: await at.call(id) }
}

/** A request that has become a stream, read up to its first message. */
async function streaming(at: Stage, client: Client, id: string | number) {
  const { answer, call } = await calling(at, client, id)
  await call.say('begun')
  const stream = await answer
  const first = await stream.event()
  expect(first?.message.params.data).toBe('begun')
  return { stream, call, last: first?.id as string }
}

async function noStreamOpen(at: Stage): Promise<void> {
  await vi.waitFor(async () => expect((await at.handler.status()).openStreams).toBe(0), { timeout: 5000, interval: 5 })
}

describe.each(DOORS)('%s', (name) => {
  describe('auto', () => {
    test('an answer that comes first and quickly is JSON', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const answer = await client.post({ id: 1, method: 'echo', params: { x: 1 } })
      expect(answer).toMatchObject({ status: 200, headers: { 'content-type': 'application/json' } })
      expect(answer.json).toEqual({ jsonrpc: '2.0', id: 1, result: { echo: { x: 1 } } })
    })

    test('a related message makes it a stream: the message, then the answer, then the end', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      await call.say('a')
      const stream = await answer
      expect(stream.headers['content-type']).toBe('text/event-stream')
      await call.say('b')
      await call.answer()
      expect(messages(await stream.events())).toMatchObject([...said('a', 'b'), { id: 1, result: { done: 1 } }])
    })

    test('a related request makes it a stream', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      await call.ask(0, 'sampling/createMessage')
      const stream = await answer
      expect((await stream.event())?.message).toMatchObject({ method: 'sampling/createMessage' })
      await call.answer()
      expect(messages(await stream.events())).toMatchObject([{ id: 1 }])
    })

    test('a message that is related to nothing does not make it one', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      await at.puppet.say('notifications/message', { data: 'to all' })
      await call.answer()
      expect((await answer).headers['content-type']).toBe('application/json')
      expect((await (await client.get()).event())?.message).toMatchObject(said('to all')[0] as object)
    })

    test('an answer that is not there after upgradeAfter becomes a stream', async () => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
      onTestFinished(() => void vi.useRealTimers())
      const at = await stage(name, { upgradeAfter: 1000 })
      const client = await at.initialize()
      const early = await calling(at, client, 'early')
      vi.advanceTimersByTime(999)
      await early.call.answer()
      const late = await calling(at, client, 'late')
      vi.advanceTimersByTime(1000)
      await late.call.answer()
      vi.useRealTimers()
      expect((await early.answer).headers['content-type']).toBe('application/json')
      const stream = await late.answer
      expect(stream.headers['content-type']).toBe('text/event-stream')
      expect(messages(await stream.events())).toMatchObject([{ id: 'late' }])
    })

    test('closeSSE makes it a stream and ends the connection; the client comes back for the answer', async () => {
      const at = await stage(name, { upgradeAfter: 60_000, retryInterval: 123 })
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      call.extra?.closeSSEStream?.()
      const stream = await answer
      const primed = await stream.block()
      expect(primed).toMatchObject({ id: expect.any(String), data: '', retry: 123 })
      expect(await stream.events()).toEqual([])
      expect(at.puppet.received.all.map(({ message }) => 'method' in message && message.method)).not.toContain(
        'notifications/cancelled',
      )
      await call.say('while nobody listens')
      const resumed = await client.get(primed?.id)
      await call.answer()
      const events = await resumed.events()
      expect(messages(events)).toMatchObject([...said('while nobody listens'), { id: 1, result: { done: 1 } }])
      expect((await client.get(events.at(-1)?.id)).status).toBe(204)
    })

    test('closeSSE in the middle of a stream, twice, loses nothing', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const { stream, call, last } = await streaming(at, client, 1)
      await call.say('before')
      call.extra?.closeSSEStream?.()
      call.extra?.closeSSEStream?.()
      const events = await stream.events()
      expect(messages(events)).toMatchObject(said('before'))
      const resumed = await client.get(events.at(-1)?.id ?? last)
      await call.say('after')
      expect((await resumed.event())?.message).toMatchObject(said('after')[0] as object)
      call.extra?.closeSSEStream?.()
      expect(await resumed.events()).toEqual([])
      await call.answer()
      expect(messages(await (await client.get(last)).events())).toMatchObject([...said('before', 'after'), { id: 1 }])
    })

    test('a message that is related to an answered request takes the standalone stream', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      await call.answer()
      await (await answer).text()
      await call.say('too late')
      expect((await (await client.get()).event())?.message).toMatchObject(said('too late')[0] as object)
    })
  })

  describe('sse', () => {
    test('every answer is a stream, primed, ended by the answer', async () => {
      const at = await stage(name, { responseMode: 'sse', retryInterval: 77 })
      const client = await at.initialize()
      const stream = await client.open({ id: 1, method: 'ping' })
      expect(stream).toMatchObject({ status: 200, sessionId: client.id })
      expect(stream.headers['content-type']).toBe('text/event-stream')
      expect(stream.headers['cache-control']).toContain('no-cache')
      expect(await stream.block()).toMatchObject({ id: expect.any(String), data: '', retry: 77 })
      expect(await stream.block()).toMatchObject({ event: 'message', message: { id: 1, result: {} } })
      expect(await stream.block()).toBeUndefined()
    })

    test('initialize as well, with the session’s id', async () => {
      const { door } = await stage(name, { responseMode: 'sse' })
      const stream = await door.open({ body: initialize() })
      expect(stream.headers['content-type']).toBe('text/event-stream')
      expect(stream.sessionId).toBeTruthy()
      expect(messages(await stream.events())).toMatchObject([{ id: 'init', result: { protocolVersion: '2025-11-25' } }])
    })

    test('a batch: one stream, an event for each answer', async () => {
      const at = await stage(name, { responseMode: 'sse' })
      const client = await at.initialize('2025-03-26')
      const body = [1, 2, 3].map((id) => ({ jsonrpc: '2.0', id, method: 'ping' }))
      const stream = await at.door.open(client.with({ body }))
      expect(messages(await stream.events()).map(({ id }) => id)).toEqual([1, 2, 3])
    })
  })

  describe('json', () => {
    test('what a handler says besides its answer takes the standalone stream', async () => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
      onTestFinished(() => void vi.useRealTimers())
      const at = await stage(name, { responseMode: 'json' })
      const client = await at.initialize()
      const get = await client.get()
      const { answer, call } = await calling(at, client, 1)
      await call.say('a')
      await call.ask(0, 'roots/list')
      call.extra?.closeSSEStream?.()
      // as far as the bounded waits of this test allow
      vi.advanceTimersByTime(4000)
      vi.useRealTimers()
      expect((await get.event())?.message).toMatchObject(said('a')[0] as object)
      expect((await get.event())?.message).toMatchObject({ method: 'roots/list' })
      await call.answer()
      const stream = await answer
      expect(stream.headers['content-type']).toBe('application/json')
      expect(JSON.parse(await stream.text())).toEqual({ jsonrpc: '2.0', id: 1, result: { done: 1 } })
    })
  })

  describe('what a client learns before the first message', () => {
    test.each(['2025-03-26', '2025-06-18'])('on %s: nothing with an id, which it could not read', async (version) => {
      const at = await stage(name)
      const client = await at.initialize(version)
      const { answer, call } = await calling(at, client, 1)
      expect(call.extra?.closeSSEStream).toBeUndefined()
      expect(call.extra?.closeStandaloneSSEStream).toBeUndefined()
      await call.say('x')
      await call.answer()
      const get = await client.get()
      await at.puppet.say('notifications/message', { data: 'y' })
      for (const [stream, count] of [
        [await answer, 2],
        [get, 1],
      ] as const) {
        for (let seen = 0; seen < count; ) {
          const block = await stream.block()
          if (block?.message) seen++
          else expect(block, 'a block without a message').not.toHaveProperty('id')
          if (!block?.message) expect(block).not.toHaveProperty('data')
        }
      }
    })

    test('on 2025-11-25: an event without data, from which it can resume', async () => {
      const at = await stage(name, { upgradeAfter: 1 })
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      const stream = await answer
      const primed = await stream.block()
      expect(primed).toMatchObject({ id: expect.any(String), data: '', retry: 1000 })
      stream.abort()
      await call.say('a')
      await call.answer()
      const events = await (await client.get(primed?.id)).events()
      expect(messages(events)).toMatchObject([...said('a'), { id: 1 }])

      const get = await client.get()
      const start = await get.block()
      expect(start).toMatchObject({ id: expect.any(String), data: '' })
      get.abort()
      await noStreamOpen(at)
      await at.puppet.say('notifications/message', { data: 'y' })
      expect((await (await client.get(start?.id)).event())?.message).toMatchObject(said('y')[0] as object)
    })
  })

  test('events come in the order in which they were sent, each with an id of its own', async () => {
    const at = await stage(name)
    const client = await at.initialize()
    const { answer, call } = await calling(at, client, 1)
    const numbers = Array.from({ length: 500 }, (_, n) => n)
    for (const n of numbers) void call.say(n)
    await call.answer()
    const events = await (await answer).events()
    expect(messages(events).map(({ params }) => params?.data)).toEqual([...numbers, undefined])
    expect(new Set(ids(events)).size).toBe(501)
    for (const { id } of events) expect(id).toMatch(/^[\x21-\x7e]+$/)
  })

  test('quiet streams are kept open by comments', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const at = await stage(name, { keepAlive: 15_000, upgradeAfter: 0 })
    const client = await at.initialize()
    const get = await client.get()
    await get.block()
    const { answer } = await calling(at, client, 1)
    const post = await answer
    await post.block()
    for (let i = 0; i < 3; i++) {
      vi.advanceTimersByTime(15_000)
      expect(await get.block()).toEqual({ comment: expect.any(String) })
      expect(await post.block()).toEqual({ comment: expect.any(String) })
    }
  })

  describe('cancelled', () => {
    const cancel = (client: Client, id: string | number) =>
      client.post({ method: 'notifications/cancelled', params: { requestId: id } })

    test.each(['auto', 'json'] as ResponseMode[])(
      'while nothing was answered yet, %s: the POST ends without an answer',
      async (responseMode) => {
        const at = await stage(name, { responseMode, upgradeAfter: 60_000 })
        const client = await at.initialize()
        const { answer, call } = await calling(at, client, 1)
        expect((await cancel(client, 1)).status).toBe(202)
        const stream = await answer
        expect(stream.sessionId).toBe(client.id)
        expect(await stream.text()).toBe('')
        await at.received('notifications/cancelled')
        // a handler that answers all the same is not heard, and the id is free again
        await call.answer()
        expect((await client.post({ id: 1, method: 'echo' })).json.result).toEqual({ echo: null })
      },
    )

    test('a stream ends without an answer, and there is nothing left of it', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const { stream, call, last } = await streaming(at, client, 1)
      await cancel(client, 1)
      expect(await stream.events()).toEqual([])
      await call.answer()
      expect((await client.get(last)).status).toBe(204)
    })

    test('one of a batch: the others are answered', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.initialize('2025-03-26')
      const body = ['a', 'b'].map((id) => ({ jsonrpc: '2.0', ...hold(id) }))
      const pending = at.door.send(client.with({ body }))
      const a = await at.call('a')
      await at.call('b')
      await cancel(client, 'b')
      await a.answer()
      expect((await pending).json).toEqual([{ jsonrpc: '2.0', id: 'a', result: { done: 'a' } }])
    })

    test('a request that is not there: accepted', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      for (const id of [99, 'x', null, {}, '__proto__']) {
        expect((await cancel(client, id as string)).status).toBe(202)
      }
      expect((await client.post({ method: 'notifications/cancelled' })).status).toBe(202)
      expect((await client.post({ id: 1, method: 'ping' })).status).toBe(200)
    })
  })

  describe('resuming a stream', () => {
    async function finished(at: Stage, client: Client) {
      const { answer, call } = await calling(at, client, 1)
      for (const data of ['a', 'b', 'c']) await call.say(data)
      await call.answer()
      return (await answer).events()
    }

    test('that has ended: what is left of it, then 204', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const events = await finished(at, client)
      expect(events).toHaveLength(4)
      for (const [index, { id }] of events.entries()) {
        const resumed = await client.get(id)
        expect(resumed.status).toBe(index === 3 ? 204 : 200)
        if (index < 3) expect(await resumed.events()).toEqual(events.slice(index + 1))
        else expect(await resumed.text()).toBe('')
      }
    })

    test('that has lost events which the client has not seen: 400', async () => {
      const at = await stage(name, { backend: memory({ retention: { maxEvents: 2 } }) })
      const client = await at.initialize()
      const events = await finished(at, client)
      expect((await client.get(events[0]?.id)).status).toBe(400)
      expect(await (await client.get(events[1]?.id)).events()).toEqual(events.slice(2))
    })

    test('that has expired: 400', async () => {
      let now = Date.now()
      const at = await stage(name, { backend: memory({ now: () => now, retention: { ttl: 1000 } }) })
      const client = await at.initialize()
      const events = await finished(at, client)
      now += 1001
      expect((await client.get(events[0]?.id)).status).toBe(400)
    })

    test('at a position that it never had, or that never was a stream: 400', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const [first] = await finished(at, client)
      const tag = sessionTag(client.id)
      const cursor = parseEventId(tag, first?.id ?? '')
      for (const id of [
        `${tag}.${cursor?.stream}.5`,
        `${tag}.${cursor?.stream}.9999999999999999`,
        `${tag}.${cursor?.stream}.-1`,
        `${tag}.${cursor?.stream}.1e3`,
        `${tag}.AAAAAAAAAAAA.0`,
        `${tag}.__proto__.0`,
        ` ${first?.id}x`,
      ]) {
        expect((await client.get(id)).status, id).toBe(400)
      }
    })

    test('of another session: 400, even where both are one person’s', async () => {
      const at = await stage(name)
      const auth = { authorization: 'Bearer app/alice' }
      const mine = await at.initialize('2025-11-25', auth)
      const events = await finished(at, mine)
      const alsoMine = await at.initialize('2025-11-25', auth)
      const answer = await alsoMine.get(events[0]?.id)
      expect(answer.status).toBe(400)
      expect(await answer.text()).not.toContain(mine.id)
      // nor by a tag of one's own and the other's stream
      const cursor = parseEventId(sessionTag(mine.id), events[0]?.id ?? '')
      expect((await alsoMine.get(`${sessionTag(alsoMine.id)}.${cursor?.stream}.0`)).status).toBe(400)
      const standalone = await mine.get()
      await at.puppets[0]?.say('notifications/message', { data: 'secret' })
      const { id } = (await standalone.event()) as SseEvent
      expect((await alsoMine.get(id)).status).toBe(400)
    })

    test('of another principal: 404', async () => {
      const at = await stage(name)
      const alice = await at.initialize('2025-11-25', { authorization: 'Bearer app/alice' })
      const events = await finished(at, alice)
      for (const authorization of ['Bearer app/bob', 'Bearer other/alice', undefined]) {
        const answer = await alice.get(events[0]?.id, { authorization })
        expect(answer.status).toBe(404)
        expect(answer.sessionId).toBeUndefined()
      }
    })

    test('of a deleted session: 404', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const events = await finished(at, client)
      await client.delete()
      expect((await client.get(events[0]?.id)).status).toBe(404)
    })

    test('on another node, while the first one goes on writing it', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.initialize()
      const { stream, call, last } = await streaming(here, client, 1)
      stream.abort()
      await noStreamOpen(here)
      await call.say('missed')
      const resumed = await client.at(there).get(last)
      expect((await resumed.event())?.message).toMatchObject(said('missed')[0] as object)
      await call.say('live')
      expect((await resumed.event())?.message).toMatchObject(said('live')[0] as object)
      await call.answer()
      expect(messages(await resumed.events())).toMatchObject([{ id: 1, result: { done: 1 } }])
    })
  })

  describe('a client that goes away', () => {
    test('does not cancel its call, and comes back for what it has missed', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const { stream, call, last } = await streaming(at, client, 1)
      stream.abort()
      await noStreamOpen(at)
      await call.say('missed')
      await call.answer()
      expect(messages(await (await client.get(last)).events())).toMatchObject([...said('missed'), { id: 1 }])
      expect(
        at.puppet.received.all.filter(({ message }) => 'method' in message && message.method.includes('cancel')),
      ).toEqual([])
    })

    test('before there was anything to read, harms nobody', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.initialize()
      const connection = new AbortController()
      const { headers, body } = client.with({ body: { jsonrpc: '2.0', ...hold(1) } })
      const all = { accept: '*/*', 'content-type': 'application/json', ...headers } as Record<string, string>
      const init = { method: 'POST', headers: all, body: JSON.stringify(body), signal: connection.signal }
      const port = await listen(at.handler.node)
      const answer =
        name === 'node' ? fetch(`http://127.0.0.1:${port}/`, init) : at.handler.fetch(new Request('http://x/', init))
      answer.catch(() => {})
      const call = await at.call(1)
      connection.abort()
      await call.say('into the void')
      await call.answer()
      expect((await client.post({ id: 1, method: 'ping' })).status).toBe(200)
      expect(at.errors).toEqual([])
    })
  })

  describe('one connection a stream', () => {
    test('the newest GET wins, and the older one ends', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const first = await client.get()
      await at.puppet.say('notifications/message', { data: 1 })
      expect((await first.event())?.message.params.data).toBe(1)
      const second = await client.get()
      expect(await first.events()).toEqual([])
      await at.puppet.say('notifications/message', { data: 2 })
      expect((await second.event())?.message.params.data).toBe(2)
      const third = await client.get()
      expect(await second.events()).toEqual([])
      await at.puppet.say('notifications/message', { data: 3 })
      expect((await third.event())?.message.params.data).toBe(3)
    })

    test('the same on another node', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.initialize()
      const first = await client.get()
      await here.puppet.say('notifications/message', { data: 1 })
      expect((await first.event())?.message.params.data).toBe(1)
      const second = await client.at(there).get()
      expect(await first.events()).toEqual([])
      await here.puppet.say('notifications/message', { data: 2 })
      expect((await second.event())?.message.params.data).toBe(2)
    })

    test('many at once: one is left, and a message goes out once', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const gets = await Promise.all(Array.from({ length: 10 }, () => client.get()))
      await at.puppet.say('notifications/message', { data: 'only once' })
      expect((await at.handler.status()).openStreams).toBe(1)
      await at.handler.drain()
      const all = await Promise.all(gets.map((get) => get.events()))
      expect(messages(all.flat())).toMatchObject(said('only once'))
    })

    test('a message on the older one while the newer one attaches goes out once', async () => {
      const { backend, hold } = slowAttach()
      const at = await stage(name, { backend })
      const client = await at.initialize()
      const first = await client.get()
      await at.puppet.say('notifications/message', { data: 1 })
      expect((await first.event())?.message.params.data).toBe(1)
      const release = hold()
      const pending = client.get()
      await release.reached
      await at.puppet.say('notifications/message', { data: 2 })
      release()
      const second = await pending
      await at.puppet.say('notifications/message', { data: 3 })
      const seen: unknown[] = (await first.events()).map(({ message }) => message.params.data)
      while (seen.at(-1) !== 3) seen.push((await second.event())?.message.params.data)
      expect(seen).toEqual([2, 3])
    })

    test('without a cursor the next one begins where the last one ended, on this node and on another', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.initialize('2025-06-18')
      const first = await client.get()
      await here.puppet.say('notifications/message', { data: 1 })
      expect((await first.event())?.message.params.data).toBe(1)
      first.abort()
      await noStreamOpen(here)
      await here.puppet.say('notifications/message', { data: 2 })
      const second = await client.get()
      expect((await second.event())?.message.params.data).toBe(2)
      second.abort()
      await noStreamOpen(here)
      await here.puppet.say('notifications/message', { data: 3 })
      expect((await (await client.at(there).get()).event())?.message.params.data).toBe(3)
    })

    test('a POST’s stream that is resumed while its connection still stands moves over', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const { stream, call, last } = await streaming(at, client, 1)
      const resumed = await client.get(last)
      expect(await stream.events()).toEqual([])
      await call.say('a')
      await call.answer()
      expect(messages(await resumed.events())).toMatchObject([...said('a'), { id: 1 }])
    })
  })

  describe('the standalone stream', () => {
    test('begins with what was sent before the first GET, once', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      await at.puppet.say('notifications/message', { data: 1 })
      await at.puppet.say('notifications/message', { data: 2 })
      const first = await client.get()
      expect((await first.event())?.message.params.data).toBe(1)
      expect((await first.event())?.message.params.data).toBe(2)
      const second = await client.get()
      await at.puppet.say('notifications/message', { data: 3 })
      expect((await second.event())?.message.params.data).toBe(3)
    })

    test('goes on after the last event that the client has seen', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      const first = await client.get()
      await at.puppet.say('notifications/message', { data: 1 })
      const { id } = (await first.event()) as SseEvent
      first.abort()
      await noStreamOpen(at)
      await at.puppet.say('notifications/message', { data: 2 })
      await at.puppet.say('notifications/message', { data: 3 })
      const second = await client.get(id)
      expect((await second.event())?.message.params.data).toBe(2)
      expect((await second.event())?.message.params.data).toBe(3)
      const again = await client.get(id)
      expect((await again.event())?.message.params.data).toBe(2)
    })

    test('closeStandaloneSSE ends its connection, and nothing is lost', async () => {
      const at = await stage(name, { retryInterval: 55 })
      const client = await at.initialize()
      const get = await client.get()
      const primed = await get.block()
      const { answer, call } = await calling(at, client, 1)
      call.extra?.closeStandaloneSSEStream?.()
      expect(await get.block()).toEqual({ retry: 55 })
      expect(await get.block()).toBeUndefined()
      await at.puppet.say('notifications/message', { data: 'meanwhile' })
      await call.answer()
      expect(JSON.parse(await (await answer).text())).toMatchObject({ id: 1 })
      expect((await (await client.get(primed?.id)).event())?.message).toMatchObject(said('meanwhile')[0] as object)
    })

    test('carries what the program has to tell, to those that are subscribed', async () => {
      const at = await stage(name)
      const client = await at.initialize()
      await client.post({ id: 1, method: 'resources/subscribe', params: { uri: 'test://a' } })
      const get = await client.get()
      await at.handler.notify.resourceUpdated('test://b')
      await at.handler.notify.resourceUpdated('test://a')
      await at.handler.notify.toolsChanged()
      expect((await get.event())?.message).toMatchObject({
        method: 'notifications/resources/updated',
        params: { uri: 'test://a' },
      })
      expect((await get.event())?.message).toMatchObject({ method: 'notifications/tools/list_changed' })
    })
  })

  describe('DELETE', () => {
    test('ends running requests without a response: streams end, a POST without one is told 404', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.initialize()
      const { stream, call } = await streaming(at, client, 1)
      const pending = await calling(at, client, 2)
      const get = await client.get()
      expect((await client.delete()).status).toBe(200)
      expect(await stream.events()).toEqual([])
      expect(await get.events()).toEqual([])
      const answer = await pending.answer
      expect(answer.status).toBe(404)
      expect(JSON.parse(await answer.text())).toMatchObject({ id: 2, error: { code: -32001 } })
      expect(at.puppet.closed).toBe(true)
      await expect(call.say('late')).rejects.toThrow()
    })

    test('while a GET is attaching: no stream of the session is left', async () => {
      const { backend, hold } = slowAttach()
      const at = await stage(name, { backend })
      const client = await at.initialize()
      const release = hold()
      const pending = client.get()
      await release.reached
      expect((await client.delete()).status).toBe(200)
      release()
      const get = await pending
      if (get.status === 200) expect(await get.events()).toEqual([])
      else expect(get.status).toBe(404)
      expect((await at.handler.status()).openStreams).toBe(0)
    })

    test('on another node ends streams here, also where the instance has closed itself', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.initialize()
      const get = await client.get()
      await here.puppet.close()
      expect((await client.at(there).delete()).status).toBe(200)
      expect(await get.events()).toEqual([])
    })
  })

  describe('an answer that is no JSON ends its request all the same', () => {
    const circular: Record<string, unknown> = {}
    circular.self = circular
    let deep: Record<string, unknown> = {}
    for (let depth = 0; depth < 100_000; depth++) deep = { deep }

    test.each([
      ['a bigint', { big: 1n }],
      ['a circle', circular],
      ['deeper than the stack', deep],
    ])('%s', async (_, result) => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      await call.answer(result).catch(() => {})
      expect(JSON.parse(await (await answer).text())).toMatchObject({ id: 1, error: { code: -32603 } })
      const streamed = await streaming(at, client, 2)
      await streamed.call.answer(result).catch(() => {})
      expect(messages(await streamed.stream.events())).toMatchObject([{ id: 2, error: { code: -32603 } }])
      // and what is said beside it is the handler's own error
      const third = await calling(at, client, 3)
      await expect(third.call.say(result)).rejects.toThrow()
      await third.call.answer()
      await (await third.answer).text()
    })
  })

  test('a log that is away for a moment delays a stream, and loses nothing of it', async () => {
    const backend = memory()
    let failures = 0
    const events = new Proxy(backend.events as NonNullable<Backend['events']>, {
      get(target, key) {
        if (failures > 0 && (key === 'open' || key === 'append')) {
          return async () => {
            failures--
            throw new Error('the log is away')
          }
        }
        return Reflect.get(target, key)
      },
    })
    const at = await stage(name, { backend: { ...backend, events } })
    const client = await at.initialize()
    failures = 1
    const { answer, call } = await calling(at, client, 1)
    await call.say('a')
    await call.answer()
    expect(messages(await (await answer).events())).toMatchObject([...said('a'), { id: 1 }])
    expect(failures).toBe(0)
  })

  describe('a reader that is behind', () => {
    const MAX = 64 * 1024
    const COUNT = 700
    const CHUNK = 'x'.repeat(16 * 1024)

    test('is cut off, and comes back for the rest: nothing twice, nothing missing', async () => {
      const at = await stage(name, { maxBuffered: MAX })
      const client = await at.initialize()
      const first = name === 'node' ? await unread(at, client) : await client.get()
      const primed = await first.block()
      for (let n = 0; n < COUNT; n++) await at.puppet.say('notifications/message', { data: n, filler: CHUNK })
      await noStreamOpen(at)
      // what the network had taken before it was cut is still there to be read
      const numbers: number[] = []
      let last = primed?.id
      const read = async (stream: Stream) => {
        while (numbers.at(-1) !== COUNT - 1) {
          const block = await stream.block()
          if (!block) return
          if (block.message) numbers.push(block.message.params.data)
          last = block.id ?? last
        }
      }
      await read(first).catch(() => {})
      expect(numbers.length).toBeLessThan(COUNT)
      for (let tries = 0; numbers.at(-1) !== COUNT - 1 && tries < 10; tries++) await read(await client.get(last))
      expect(numbers).toEqual(Array.from({ length: COUNT }, (_, n) => n))
    })

    test('a reader that reads is not: a burst beyond maxBuffered arrives on one connection', async () => {
      const at = await stage(name, { maxBuffered: MAX })
      const client = await at.initialize()
      const { stream, call } = await streaming(at, client, 1)
      for (let n = 0; n < 40; n++)
        void at.puppet.say('notifications/message', { data: n, filler: CHUNK }, call.request.id)
      await call.answer()
      const numbers = messages(await stream.events()).map(({ params }) => params?.data)
      expect(numbers).toEqual([...Array.from({ length: 40 }, (_, n) => n), undefined])
    })

    test('a message bigger than maxBuffered goes through', async () => {
      const at = await stage(name, { maxBuffered: 1000 })
      const client = await at.initialize()
      const { answer, call } = await calling(at, client, 1)
      await call.say('y'.repeat(1_000_000))
      await call.answer()
      const [big, done] = messages(await (await answer).events())
      expect(big.params.data).toHaveLength(1_000_000)
      expect(done).toMatchObject({ id: 1 })
    })
  })
})

/** A GET over a socket that is not read until the answer's body is asked for. */
async function unread(at: Stage, client: Client): Promise<Stream> {
  const socket = net.connect(await listen(at.handler.node), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  const { headers = {} } = client.with({})
  const head = Object.entries({ host: 'x', accept: '*/*', ...headers }).map(([key, value]) => `${key}: ${value}`)
  socket.write(`GET /mcp HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`)
  const begin = await within(new Promise<Buffer>((resolve) => socket.once('data', resolve)), 'the head of an answer')
  socket.pause()
  expect(String(begin)).toMatch(/^HTTP\/1\.1 200 /)
  return new Stream(200, {}, unchunked(Buffer.from(begin.subarray(begin.indexOf('\r\n\r\n') + 4)), socket), () =>
    socket.destroy(),
  )
}

/** The body of a chunked answer, as much as came. */
async function* unchunked(begin: Buffer, socket: net.Socket): AsyncGenerator<Buffer> {
  let pending = begin
  const chunks = socket[Symbol.asyncIterator]()
  for (;;) {
    const line = pending.indexOf('\r\n')
    const size = line < 0 ? Number.NaN : Number.parseInt(pending.subarray(0, line).toString(), 16)
    if (size === 0) return
    if (pending.length >= line + 2 + size + 2) {
      yield pending.subarray(line + 2, line + 2 + size)
      pending = pending.subarray(line + 2 + size + 2)
      continue
    }
    const { value, done } = await chunks.next()
    if (done) return
    pending = Buffer.concat([pending, value as Buffer])
  }
}

/** A backend whose event log takes its time to attach a reader, when told to. */
function slowAttach() {
  const backend = memory()
  const log = backend.events as NonNullable<Backend['events']>
  let gate: { reached(): void; open: Promise<void> } | undefined
  const events: typeof log = {
    ...log,
    async attach(...args) {
      const info = await log.attach(...args)
      gate?.reached()
      await gate?.open
      return info
    },
  }
  const hold = () => {
    let reached = () => {}
    let release = () => {}
    const arrived = new Promise<void>((resolve) => {
      reached = resolve
    })
    gate = {
      reached,
      open: new Promise((resolve) => {
        release = () => {
          gate = undefined
          resolve()
        }
      }),
    }
    return Object.assign(() => release(), { reached: within(arrived, 'a reader that attaches') })
  }
  return { backend: { ...backend, events }, hold }
}
