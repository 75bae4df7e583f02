/** What a server asks its client: ids that are unique in the session whoever asks, and answers that find their way back. */
import { beforeEach, describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { SessionHandlerOptions } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import type { Reply } from '../harness/reply.js'
import { type ScriptedServer, scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession, type WireClient } from '../harness/wire-client.js'

let pass: ReturnType<typeof fakeTime>
beforeEach(() => {
  pass = fakeTime()
})

/** A session whose server a test can speak for, with its standalone stream open. */
async function session(options: SessionHandlerOptions = {}) {
  const factory = scripted()
  const handler = serve(factory, options)
  const client = await openSession(handler)
  const stream = await client.get()
  return { factory, handler, client, stream }
}

async function next(stream: Reply) {
  const event = await stream.next()
  if (!event) throw new Error('the stream has ended')
  return event.message
}

const result = (id: number | string, roots: string) => ({ jsonrpc: '2.0', id, result: { roots } })

async function answer(client: WireClient, id: string | number, roots: string): Promise<number> {
  return (await client.respond(id, { roots })).status
}

describe('the ids of what a server asks', () => {
  test('are rewritten, and mapped back in the answer: numbers stay numbers, strings strings', async () => {
    const { factory, client, stream } = await session()
    const wireIds: (string | number)[] = []
    for (const id of [0, 1, 'one', '1']) {
      await factory.last.ask(id, 'roots/list')
      wireIds.push((await next(stream)).id)
    }
    expect(new Set(wireIds).size).toBe(4)
    for (const id of wireIds) expect([0, 1, 'one', '1']).not.toContain(id)
    for (const [i, id] of wireIds.entries()) expect(await answer(client, id, `r${i}`)).toBe(202)
    expect(factory.last.answers).toEqual([result(0, 'r0'), result(1, 'r1'), result('one', 'r2'), result('1', 'r3')])
  })

  test('are mapped back in the client’s errors, too', async () => {
    const { factory, client, stream } = await session()
    await factory.last.ask(0, 'sampling/createMessage', { messages: [] })
    const { id, params } = await next(stream)
    expect(params).toEqual({ messages: [] })
    const error = { code: -1, message: 'the user said no' }
    expect((await client.post({ id, error })).status).toBe(202)
    expect(factory.last.answers).toEqual([{ jsonrpc: '2.0', id: 0, error }])
  })

  test('are unique across restores: an old answer never reaches the new instance’s request of the same number', async () => {
    const { factory, client, stream } = await session()
    await factory.last.ask(0, 'roots/list')
    const old = (await next(stream)).id
    await factory.last.close()
    await client.request('ping')
    expect(factory.servers).toHaveLength(2)
    await factory.last.ask(0, 'roots/list')
    const fresh = (await next(stream)).id
    expect(fresh).not.toBe(old)
    expect(await answer(client, old, 'of the dead')).toBe(400)
    expect(factory.last.answers).toEqual([])
    expect(await answer(client, fresh, 'of the living')).toBe(202)
    expect(factory.last.answers).toEqual([result(0, 'of the living')])
  })

  test('are unique across nodes: two instances that both begin at 0 never cross, wherever the answers arrive', async () => {
    const backend = memory()
    const [one, two] = [scripted(), scripted()]
    const [here, there] = [serve(one, { backend }), serve(two, { backend })]
    const client = await openSession(here)
    const stream = await client.get()
    await client.on(there).request('ping')
    const wire: Record<string, string> = {}
    for (const [name, factory] of [
      ['one', one],
      ['two', two],
    ] as const) {
      await factory.last.ask(0, 'roots/list', { who: name })
      const asked = await next(stream)
      wire[asked.params.who] = asked.id
    }
    expect(wire.one).not.toBe(wire.two)
    // each answer arrives at the other's node
    client.on(there)
    expect(await answer(client, wire.one ?? '', 'for one')).toBe(202)
    client.on(here)
    expect(await answer(client, wire.two ?? '', 'for two')).toBe(202)
    expect(one.last.answers).toEqual([result(0, 'for one')])
    expect(two.last.answers).toEqual([result(0, 'for two')])
    await stream.leave()
  })

  test('are unique across sessions of one node: another session’s answer is refused', async () => {
    const factory = scripted()
    const handler = serve(factory)
    const alice = await openSession(handler)
    const bob = await openSession(handler)
    const streams = [await alice.get(), await bob.get()] as const
    const [a, b] = factory.servers as [ScriptedServer, ScriptedServer]
    await a.ask(0, 'roots/list')
    await b.ask(0, 'roots/list')
    const [forAlice, forBob] = [(await next(streams[0])).id, (await next(streams[1])).id]
    expect(forAlice).not.toBe(forBob)
    expect(await answer(bob, forAlice, 'forged')).toBe(400)
    expect(await answer(alice, forBob, 'forged')).toBe(400)
    expect([...a.answers, ...b.answers]).toEqual([])
    expect(await answer(alice, forAlice, 'a')).toBe(202)
    expect(await answer(bob, forBob, 'b')).toBe(202)
    expect(a.answers).toEqual([result(0, 'a')])
    expect(b.answers).toEqual([result(0, 'b')])
  })

  test('are unique across sessions and nodes: another session’s answer is refused on the node that asked and on others', async () => {
    const backend = memory()
    const factory = scripted()
    const here = serve(factory, { backend })
    const alice = await openSession(here)
    const stream = await alice.get()
    await factory.last.ask(0, 'roots/list')
    const { id } = await next(stream)
    const bob = await openSession(serve(scripted(), { backend }))
    expect(await answer(bob, id, 'forged')).toBe(400)
    const bobHere = bob.on(here)
    expect(await answer(bobHere, id, 'forged')).toBe(400)
    expect(factory.servers.flatMap(({ answers }) => answers)).toEqual([])
    expect(await answer(alice, id, 'mine')).toBe(202)
    await stream.leave()
  })
})

describe('an answer that nobody waits for is refused (400), and reaches nobody', () => {
  test.each([0, 1, '0', 'x', 'node:0', ':', '', 'mcp-roam:0', '__proto__'])('one to %j', async (id) => {
    const { factory, client } = await session()
    await factory.last.ask(0, 'roots/list')
    const refused = await client.respond(id)
    expect(refused.status).toBe(400)
    expect(refused.body.error.code).toBe(-32000)
    expect(factory.last.answers).toEqual([])
  })

  test('a second answer', async () => {
    const { factory, client, stream } = await session()
    await factory.last.ask(0, 'roots/list')
    const { id } = await next(stream)
    const both = await Promise.all([answer(client, id, 'first'), answer(client, id, 'second')])
    expect(both.sort()).toEqual([202, 400])
    expect(factory.last.answers).toHaveLength(1)
  })

  test('the same answer, when many others have come since', async () => {
    const { factory, client, stream } = await session()
    const ids: string[] = []
    for (let i = 0; i < 102; i++) {
      await factory.last.ask(i, 'roots/list')
      ids.push((await next(stream)).id)
      expect(await answer(client, ids[i] as string, 'r')).toBe(202)
    }
    expect(await answer(client, ids[101] as string, 'r')).toBe(202)
    expect(await answer(client, ids[0] as string, 'r')).toBe(400)
    expect(factory.last.answers).toHaveLength(102)
  })

  test('an error without an id', async () => {
    const { factory, client } = await session()
    expect((await client.post({ error: { code: 1, message: 'x' } })).status).toBe(400)
    expect(factory.last.answers).toEqual([])
  })

  test('one for a request that the server has cancelled', async () => {
    const { factory, client, stream } = await session()
    await factory.last.ask(0, 'roots/list')
    const { id } = await next(stream)
    await factory.last.notify('notifications/cancelled', { requestId: 0, reason: 'too late' })
    const cancelled = await next(stream)
    expect(cancelled).toEqual({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: id, reason: 'too late' },
    })
    expect(await answer(client, id, 'late')).toBe(400)
    expect(factory.last.answers).toEqual([])
  })
})

describe('an answer that is repeated, because its client does not know that it has arrived', () => {
  test('is accepted again, and handed over once', async () => {
    const { factory, client, stream } = await session()
    await factory.last.ask(0, 'roots/list')
    const { id } = await next(stream)
    for (let i = 0; i < 3; i++) expect(await answer(client, id, 'the same')).toBe(202)
    expect(await answer(client, id, 'another one')).toBe(400)
    expect(factory.last.answers).toEqual([result(0, 'the same')])
  })

  test('is accepted when another node was told too late that it had arrived', async () => {
    const shared = memory()
    const [own, other] = [gated(shared), gated(shared)]
    const factory = scripted()
    const client = await openSession(serve(factory, { backend: own }))
    const stream = await client.get()
    client.on(serve(scripted(), { backend: other }))
    await factory.last.ask(0, 'roots/list')
    const { id } = await next(stream)
    const hear = own.calls.replace('bus.publish', async () => {})
    const first = answer(client, id, 'the same')
    await pass(3000)
    expect(await first).toBe(503)
    hear()
    expect(await answer(client, id, 'the same')).toBe(202)
    expect(await answer(client, id, 'another one')).toBe(400)
    expect(factory.last.answers).toEqual([result(0, 'the same')])
    await stream.leave()
  })
})

describe('progress of what a server asks', () => {
  test.each([0, 7, 'token', ''])('token %j is rewritten, unique, and mapped back', async (progressToken) => {
    const { factory, client, stream } = await session()
    await factory.last.ask(0, 'sampling/createMessage', { _meta: { progressToken, other: 1 }, maxTokens: 1 })
    const { params, id } = await next(stream)
    expect(params).toMatchObject({ _meta: { other: 1 }, maxTokens: 1 })
    const token = params._meta.progressToken
    expect(token).not.toBe(progressToken)
    const accepted = await client.notify('notifications/progress', { progressToken: token, progress: 1, message: 'm' })
    expect(accepted.status).toBe(202)
    expect(factory.last.all('notifications/progress')).toEqual([
      { jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken, progress: 1, message: 'm' } },
    ])
    // none after the answer
    expect(await answer(client, id, 'r')).toBe(202)
    await client.notify('notifications/progress', { progressToken: token, progress: 2 })
    expect(factory.last.all('notifications/progress')).toHaveLength(1)
  })

  test('told by another session does not arrive', async () => {
    const factory = scripted()
    const handler = serve(factory)
    const alice = await openSession(handler)
    const bob = await openSession(handler)
    const stream = await alice.get()
    const [a] = factory.servers as [ScriptedServer]
    await a.ask(0, 'sampling/createMessage', { _meta: { progressToken: 0 } })
    const { params } = await next(stream)
    await bob.notify('notifications/progress', { progressToken: params._meta.progressToken, progress: 1 })
    for (const server of factory.servers) expect(server.all('notifications/progress')).toEqual([])
    await stream.leave()
  })

  test('told on another node arrives at the node that asked', async () => {
    const backend = memory()
    const factory = scripted()
    const client = await openSession(serve(factory, { backend }))
    const stream = await client.get()
    await factory.last.ask(3, 'sampling/createMessage', { _meta: { progressToken: 3 } })
    const { params } = await next(stream)
    const { progressToken } = params._meta
    client.on(serve(scripted(), { backend }))
    expect((await client.notify('notifications/progress', { progressToken, progress: 1 })).status).toBe(202)
    expect(factory.last.all('notifications/progress')).toMatchObject([{ params: { progressToken: 3, progress: 1 } }])
    await stream.leave()
  })
})

describe('cancelled', () => {
  test('of a server for something it never asked does not name another’s request', async () => {
    const backend = memory()
    const [one, two] = [scripted(), scripted()]
    const client = await openSession(serve(one, { backend }))
    const stream = await client.get()
    await one.last.ask(0, 'roots/list')
    const { id } = await next(stream)
    await client.on(serve(two, { backend })).request('ping')
    await two.last.notify('notifications/cancelled', { requestId: 0 })
    await quiet()
    await one.last.say('end')
    for (;;) {
      const message = await next(stream)
      if (message.params?.data === 'end') break
      expect(message.params.requestId).not.toBe(id)
    }
    expect(await answer(client, id, 'still awaited')).toBe(202)
    await stream.leave()
  })

  test('of a client names its own request, whose id is never rewritten', async () => {
    const factory = scripted({ 'tools/call': () => new Promise(() => {}) })
    const client = await openSession(serve(factory, { responseMode: 'json' }))
    const call = client.post({ id: 'mine', method: 'tools/call' })
    await quiet()
    expect((await client.notify('notifications/cancelled', { requestId: 'mine' })).status).toBe(202)
    expect(factory.last.all('notifications/cancelled')).toMatchObject([{ params: { requestId: 'mine' } }])
    expect((await call).body).toBeUndefined()
  })

  test('of a client arrives at the node that runs its request', async () => {
    const backend = memory()
    const factory = scripted({ 'tools/call': () => new Promise(() => {}) })
    const client = await openSession(serve(factory, { backend, responseMode: 'json' }))
    const call = client.post({ id: 'long', method: 'tools/call' })
    await quiet()
    client.on(serve(scripted(), { backend }))
    expect((await client.notify('notifications/cancelled', { requestId: 'long' })).status).toBe(202)
    expect(factory.last.all('notifications/cancelled')).toMatchObject([{ params: { requestId: 'long' } }])
    await call
  })
})

test('what a server asks because of a call goes out on that call’s stream, and its answer lets the call go on', async () => {
  const factory = scripted({
    'tools/call': async (request, server) => {
      await server.ask(0, 'elicitation/create', { message: 'name?' }, request.id)
      await server.answer(0)
      return { content: (server.answers[0] as unknown as { result: { content: unknown } }).result.content }
    },
  })
  const client = await openSession(serve(factory))
  const stream = await client.open({ id: 1, method: 'tools/call' })
  expect(stream.isStream).toBe(true)
  const asked = await next(stream)
  expect(asked.method).toBe('elicitation/create')
  expect((await client.respond(asked.id, { content: 'Ada' })).status).toBe(202)
  await pass(100)
  expect(await next(stream)).toMatchObject({ id: 1, result: { content: 'Ada' } })
  expect(await stream.next()).toBeUndefined()
})
