/** Sessions in a backend whose contents are encrypted: with the keys, without them, and while they change. */
import { describe, expect, it, test } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { K1, K2 } from '../backend/sealed/keys.js'
import { type GatedBackend, gated } from '../harness/gated-backend.js'
import type { Answer } from '../harness/reply.js'
import { sessionIds } from '../harness/serve.js'
import { openSession } from '../harness/wire-client.js'
import { request, type Stage, stage } from '../http/stage.js'
import { calling } from '../http/streams.js'

type Keys = string[] | undefined

const node = (backend: Backend, keys: Keys): Promise<Stage> =>
  stage('fetch', { backend, retryInterval: 50, ...(keys && { encryption: { keys } }) })

function expectUnavailable(answer: Answer): void {
  expect(answer.status).toBe(503)
  expect(answer.headers['retry-after']).toBe('1')
  expect(answer.text).not.toMatch(/key|encrypt|plain/)
}

it('a session goes on at another node, which finds its record, its state and its streams', async () => {
  const backend = memory()
  const [a, b] = [await node(backend, [K1]), await node(backend, [K1])]
  const client = await a.session()
  await client.request('logging/setLevel', { level: 'debug' })
  const { answer, call } = await calling(a, client, 1)
  await call.say('one')
  const stream = await answer
  const priming = await stream.next()
  await stream.leave()
  await call.say('two')
  await call.answer()
  const rest = await (await client.at(b.door).get(priming?.id)).rest()
  expect(JSON.stringify(rest)).toMatch(/two.*"done":1/)
  expect(b.server.all('logging/setLevel')).toMatchObject([{ params: { level: 'debug' } }])
  expect([...a.errors, ...b.errors]).toEqual([])
})

it('a client’s answer reaches the node that asked, by a message that nobody else can make', async () => {
  const backend = memory()
  const [a, b] = [await node(backend, [K1]), await node(backend, [K1])]
  const client = await a.session()
  const { answer, call } = await calling(a, client, 1)
  await call.ask(0, 'roots/list')
  const stream = await answer
  let asked = (await stream.next())?.message
  while (asked?.method !== 'roots/list') asked = (await stream.next())?.message
  expect((await client.at(b.door).respond(asked.id, { roots: [] })).status).toBe(202)
  expect(await call.server.answer(0)).toMatchObject({ message: { result: { roots: [] } } })
  for (const topic of ['nodes', `node:${a.handler.nodeId}`, `node:${b.handler.nodeId}`]) {
    await backend.bus.publish(topic, JSON.stringify({ to: 'ask', id: 'x', from: 'evil', subject: 's', session: 's' }))
  }
  await expect.poll(() => [a, b].map(({ errors }) => errors.length)).toEqual([1, 1])
  expect(String(b.errors)).toMatch(/messages that were dropped/)
})

describe('without the key of a session', () => {
  async function locked() {
    const backend = memory()
    const made = await node(backend, [K1])
    const client = await made.session()
    const at = await node(backend, [K2])
    return { backend, client: client.at(at.door), at }
  }

  it('it is there, and cannot be served: 503 to everything, never 404, and onerror names the key', async () => {
    const { client, at } = await locked()
    expectUnavailable(await client.post(request(1)))
    expectUnavailable(await client.send({ method: 'GET' }))
    expectUnavailable(await client.delete())
    expectUnavailable(await client.notify('notifications/roots/list_changed'))
    for (const { message } of at.errors) {
      expect(message).toMatch(/^a session record is encrypted with key [\w-]{8}, which is not among encryption\.keys$/)
    }
    expect(at.errors).toHaveLength(4)
    await expect(at.handler.sessions.get(client.sessionId)).rejects.toThrow(/encrypted with key/)
  })

  it('a list skips it and says so; it can be ended all the same, and is 404 then', async () => {
    const { client, at } = await locked()
    const own = await openSession(at.door)
    expect(await sessionIds(at.handler)).toEqual([own.sessionId])
    const [skipped] = at.errors
    expect(skipped?.message).toBe('backend: list skipped 1 session records')
    expect(String(skipped?.cause)).toMatch(/encrypted with key/)
    expect(await at.handler.sessions.delete(client.sessionId)).toBe(true)
    expect(await at.handler.sessions.delete(client.sessionId)).toBe(false)
    expect((await client.request('ping')).status).toBe(404)
  })

  test.each<[string, Keys]>([
    ['no keys', undefined],
    ['another key', [K2]],
  ])('a node with %s answers 503 until it has the key', async (_, keys) => {
    const backend = memory()
    const client = await (await node(backend, [K1])).session()
    expectUnavailable(await client.at((await node(backend, keys)).door).post(request(1)))
    expect((await client.at((await node(backend, [K2, K1])).door).post(request(1))).status).toBe(200)
  })
})

it('of a value that does not open the server hears, and so its client, nothing of keys', async () => {
  const backend = memory()
  const at = await node(backend, [K1])
  const client = await at.session()
  const { state } = at.factory.last.context.session
  await state.set('k', 1)
  await backend.sessions.setState(client.sessionId, 'k', '"forged"')
  for (const read of [state.get('k'), state.update('k', () => 2)]) {
    await expect(read).rejects.toThrow(/^state: the value of "k" cannot be read$/)
  }
  expect(String(at.errors)).toMatch(/not encrypted/)
  await state.set('k', 3)
  expect(await state.get('k')).toBe(3)
})

describe('plain text', () => {
  it('is refused by a node that has keys, which says what to do', async () => {
    const backend = memory()
    const client = await (await node(backend, undefined)).session()
    const at = await node(backend, [K1])
    expectUnavailable(await client.at(at.door).post(request(1)))
    expect(String(at.errors)).toMatch(/not encrypted.*add 'plain' to the end of encryption\.keys/)
  })

  it.each([
    ['another version', { version: 7 }, /of version 7/],
    ['not a record', { version: undefined, sealed: undefined }, /not the record of this session/],
    ['an envelope that is cut off', { sealed: 'mcp' }, /of version 2/],
  ])('is not what a record is called that is damaged: %s', async (_, change, why) => {
    const backend = memory()
    const client = await (await node(backend, [K1])).session()
    const stored = (await backend.sessions.load(client.sessionId))?.record
    await backend.sessions.update({ ...stored, ...change } as never, stored?.revision ?? 0, 60_000)
    const at = await node(backend, [K1])
    expectUnavailable(await client.at(at.door).post(request(1)))
    for await (const _ of at.handler.sessions.list()) expect.unreachable()
    expect(String(at.errors)).toMatch(why)
    expect(String(at.errors)).not.toMatch(/plain/)
  })

  it('put in the place of an encrypted session is not served, whoever wrote it', async () => {
    const backend = memory()
    const client = await (await node(backend, [K1])).session({ headers: { authorization: 'Bearer alice' } })
    const stored = (await backend.sessions.load(client.sessionId))?.record
    const attacker = await (await node(memory(), undefined)).session({ headers: { authorization: 'Bearer eve' } })
    expect(attacker.sessionId).toBeDefined()
    const forged = { ...stored, version: 1 as const, principal: null, protocolVersion: '2025-11-25' }
    const journal = { initialize: {}, initialized: true, subscriptions: [] }
    await backend.sessions.update({ ...forged, journal } as never, stored?.revision ?? 0, 60_000)
    for (const keys of [[K1], [K1, K2]]) {
      const at = await node(backend, keys)
      expectUnavailable(await client.at(at.door).post(request(1), { headers: { authorization: undefined } } as never))
      expect(at.factory.servers).toEqual([])
    }
  })

  test.each<[string, Keys, Keys]>([
    ['keys, not used yet', undefined, ['plain', K1]],
    ['encryption', ['plain', K1], [K1, 'plain']],
    ['no more plain text', [K1, 'plain'], [K1]],
    ['a second key, not used yet', [K1], [K1, K2]],
    ['that one used', [K1, K2], [K2, K1]],
    ['the first one gone', [K2, K1], [K2]],
  ])('a rollout in steps: nodes with and without %s serve each other’s sessions', async (_, before, after) => {
    const backend = memory()
    const [a, b] = [await node(backend, before), await node(backend, after)]
    for (const [here, there] of [
      [a, b],
      [b, a],
    ] as const) {
      const client = await here.session()
      expect((await client.at(there.door).post(request(1))).status).toBe(200)
      expect((await client.at(there.door).request('logging/setLevel', { level: 'debug' })).status).toBe(200)
      expect((await client.post(request(2))).status).toBe(200)
      const { answer, call } = await calling(here, client, 3)
      await call.say('one')
      const stream = await answer
      const first = await stream.next()
      await stream.leave()
      await call.answer()
      expect(JSON.stringify(await (await client.at(there.door).get(first?.id)).rest())).toContain('"done":3')
      expect((await client.at(there.door).delete()).status).toBe(200)
      expect((await client.post(request(4))).status).toBe(404)
    }
    expect([...a.errors, ...b.errors]).toEqual([])
  })
})

describe('a stream of which something does not open', () => {
  /** A finished answer of four events, and what the client has of it. */
  async function finished(backend: GatedBackend) {
    const at = await node(backend, [K1])
    const client = await at.session()
    const { answer, call } = await calling(at, client, 1)
    for (const data of ['a', 'b', 'c']) await call.say(data)
    await call.answer()
    const [first] = await (await answer).rest()
    return { at, client, first: first?.id }
  }

  type Slice = { head: string; events: { data: string }[] }
  const spoil = (text: string) => text.replace(/.{5}"$/, 'AAAAA"')

  test.each<[string, string, (slice: Slice) => Slice]>([
    [
      'an event',
      'events.read',
      (slice) => ({ ...slice, events: slice.events.map((e) => ({ ...e, data: spoil(e.data) })) }),
    ],
    ['its head', 'events.attach', (slice) => ({ ...slice, head: spoil(slice.head) })],
  ])('%s: the resume gets 503, and all else goes on', async (_, method, change) => {
    const backend = gated(memory())
    const { at, client, first } = await finished(backend)
    const restore = backend.calls.change(method, (slice) => change(slice as Slice))
    expectUnavailable(await client.send({ method: 'GET', headers: { 'last-event-id': first ?? '' } }))
    expect(at.errors.map(({ message }) => message)).toEqual([expect.stringMatching(/stream does not open with key/)])
    expect((await client.post(request(2))).status).toBe(200)
    restore()
    expect((await client.get(first)).status).toBe(200)
  })

  it('further on than is looked at before the answer begins: the connection breaks, and the next one gets 503', async () => {
    const backend = gated(memory())
    const at = await node(backend, [K1])
    const client = await at.session()
    const { answer, call } = await calling(at, client, 1)
    for (let n = 0; n < 300; n++) await call.say(`${n}`)
    await call.answer()
    const [first] = await (await answer).rest()
    backend.calls.change('events.read', (slice) => {
      const { events, ...rest } = slice as { events: { position: number; data: string }[] }
      return { ...rest, events: events.map((e) => (e.position > 280 ? { ...e, data: spoil(e.data) } : e)) }
    })
    const resumed = await client.get(first?.id)
    expect(resumed.status).toBe(200)
    const got: (string | undefined)[] = []
    for (;;) {
      const event = await resumed.next().catch(() => undefined)
      if (!event) break
      got.push(event.id)
    }
    expect(got.length).toBeGreaterThan(200)
    expectUnavailable(await client.send({ method: 'GET', headers: { 'last-event-id': got.at(-1) ?? '' } }))
    expect((await client.post(request(2))).status).toBe(200)
  })
})
