/** A node that has a session at hand is one of its holders, answers what is asked about it, and ends both when it is gone. */
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { Questions } from '../../src/cluster/ask.js'
import type { SessionHandlerOptions } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { type Script, scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'
import { initialize, openSession, WireClient } from '../harness/wire-client.js'

/** Questions that are listened to for sessions, by all nodes of this process. */
let listening: string[]
beforeEach(() => {
  listening = []
  const { listen } = Questions.prototype
  const spy = vi.spyOn(Questions.prototype, 'listen').mockImplementation(function (this: Questions, ...args) {
    const [, session] = args
    const end = listen.apply(this, args)
    let ended = session === ''
    if (!ended) listening.push(session)
    return () => {
      end()
      if (ended) return
      ended = true
      listening.splice(listening.indexOf(session), 1)
    }
  })
  return () => spy.mockRestore()
})

function twoNodes(options: SessionHandlerOptions = {}, script: Script = {}, shared = memory()) {
  const errors: Error[] = []
  const node = () => {
    const backend = gated(shared)
    const factory = scripted(script)
    const onerror = (error: Error) => void errors.push(error)
    return { backend, factory, handler: serve(factory, { backend, onerror, ...options }) }
  }
  const holders = async (id: string) => (await shared.sessions.load(id))?.holders?.map((name) => name.split(':')[0])
  return { shared, errors, a: node(), b: node(), holders }
}

describe('nothing stays behind', () => {
  test('when a server closes while a stream is being attached, which then fails', async () => {
    const { a, holders } = twoNodes()
    const client = await openSession(a.handler)
    const gate = a.backend.calls.hold('events.attach')
    const get = client.get()
    await gate.reached
    await a.factory.last.close()
    gate.fail()
    expect((await get).status).toBe(503)
    await quiet()
    expect(await holders(client.sessionId)).toEqual([])
    expect(listening).toEqual([])
  })

  test('when a server closes while its session is compared with a store that then fails', async () => {
    const pass = fakeTime()
    const { a, holders } = twoNodes({ idleTtl: 30_000 })
    const client = await openSession(a.handler)
    // Used after so long that its expiry is refreshed first.
    await pass(3500)
    const touch = a.backend.calls.hold('sessions.touch')
    const load = a.backend.calls.hold('sessions.load')
    expect((await client.request('ping')).status).toBe(200)
    await touch.reached
    await a.factory.last.close()
    await quiet()
    touch.open()
    await load.reached
    load.fail()
    await quiet()
    expect(await holders(client.sessionId)).toEqual([])
    expect(listening).toEqual([])
  })

  test('when a session cannot be loaded', async () => {
    const { a, b, holders } = twoNodes()
    const client = await openSession(a.handler)
    const load = b.backend.calls.holdAnswer('sessions.load')
    const used = client.at(b.handler).request('ping')
    await load.reached
    load.fail()
    expect((await used).status).toBe(503)
    await quiet()
    expect(await holders(client.sessionId)).toEqual([a.handler.nodeId])
    expect(listening).toEqual([client.sessionId])
  })

  test('of sessions that were followed, called, resumed elsewhere, and left', async () => {
    const pass = fakeTime()
    const { a, b, holders } = twoNodes({ liveIdle: 60_000, responseMode: 'sse' }, { slow: () => new Promise(() => {}) })
    const ids: string[] = []
    for (let i = 0; i < 50; i++) {
      const client = await openSession(a.handler)
      ids.push(client.sessionId)
      const stream = await client.get()
      const server = a.factory.servers.at(-1)
      const answer = await client.open({ id: 'slow', method: 'slow' })
      await server?.say('first', 'slow')
      const first = await answer.next()
      await answer.leave()
      const resumed = await client.at(b.handler).get(first?.id)
      expect(resumed.status).toBe(200)
      await server?.say('something')
      await server?.respond({ id: 'slow' })
      await resumed.rest()
      await stream.leave()
    }
    await pass(120_000)
    expect(listening).toEqual([])
    for (const id of ids) expect(await holders(id)).toEqual([])
  })

  test('of many sessions that were opened and evicted, and few are released at a time', async () => {
    const pass = fakeTime()
    const shared = memory()
    let now = 0
    let most = 0
    const { release } = shared.sessions
    shared.sessions.release = async (...args) => {
      most = Math.max(most, ++now)
      await new Promise(setImmediate)
      await release(...args)
      now--
    }
    const { a, holders } = twoNodes({ liveIdle: 60_000, maxLiveSessions: 10_000 }, {}, shared)
    const clients: WireClient[] = []
    for (let i = 0; i < 2000; i++) clients.push(await openSession(a.handler))
    expect(listening).toHaveLength(2000)
    await pass(80_000)
    for (let i = 0; i < 100; i++) await quiet()
    expect((await a.handler.status()).liveSessions).toBe(0)
    expect(listening).toEqual([])
    for (const { sessionId } of clients) expect(await holders(sessionId)).toEqual([])
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(16)
  })
})

test('a request for the id of a session that is being initialized does not end that its node is asked about it', async () => {
  const begin = deferred()
  const id = 'given-by-the-program'
  const shared = memory()
  const [own, other] = [gated(shared), gated(shared)]
  const factory = scripted({}, () => begin.promise)
  const a = serve(factory, { backend: own, sessionIdGenerator: () => id })
  const b = serve(scripted(), { backend: other })
  const opened = initialize(a)
  await quiet()
  expect((await new WireClient(a, id).request('ping')).status).toBe(404)
  begin.resolve()
  expect((await opened).status).toBe(200)
  expect((await new WireClient(b, id).delete()).status).toBe(200)
  expect((await new WireClient(a, id).request('ping')).status).toBe(404)
  expect(factory.last.closed).toBe(true)
})

test('a DELETE is told to the holders although it cannot be found out who is alive', async () => {
  const pass = fakeTime()
  const { a, b } = twoNodes()
  const client = await openSession(a.handler)
  await client.at(b.handler).request('ping')
  await pass(1500)
  a.backend.calls.fail('bus.nodes')
  expect((await client.delete()).status).toBe(200)
  expect(b.factory.last.closed).toBe(true)
  expect((await client.at(b.handler).request('ping')).status).toBe(404)
})

test('a DELETE that overtakes the answer of a load is not taken for a store that went backwards', async () => {
  const { a, b, errors } = twoNodes()
  const client = await openSession(a.handler)
  const gate = b.backend.calls.holdAnswer('sessions.load')
  const racing = client.at(b.handler).request('ping')
  await gate.reached
  expect((await client.delete()).status).toBe(200)
  gate.open()
  expect((await racing).status).toBe(404)
  expect(errors).toEqual([])
})

test('a change that is made while a session is being initialized is in force there when it serves', async () => {
  const { b, shared } = twoNodes()
  const entered = deferred<string>()
  const leave = deferred()
  const factory = scripted()
  const a = serve(factory, {
    backend: gated(shared),
    onSessionInitialized: async ({ id }) => {
      entered.resolve(id)
      await leave.promise
    },
  })
  const opened = initialize(a)
  const onB = new WireClient(b.handler, await entered.promise)
  expect((await onB.request('logging/setLevel', { level: 'debug' })).status).toBe(200)
  leave.resolve()
  expect((await opened).status).toBe(200)
  await onB.at(a).request('ping')
  expect(factory.last.all('logging/setLevel')).toHaveLength(1)
})

test('a session that is used here while it is being initialized is served by one instance', async () => {
  const factory = scripted()
  const handler = serve(factory, {
    onSessionInitialized: async ({ id }) => void (await new WireClient(handler, id).request('ping')),
  })
  const client = await openSession(handler)
  expect((await client.request('ping')).status).toBe(200)
  expect(factory.servers.filter(({ closed }) => !closed)).toHaveLength(1)
  await client.delete()
  expect(factory.servers.filter(({ closed }) => !closed)).toEqual([])
})

test('`cancelled` that comes while its request waits for the session to be restored here reaches the request', async () => {
  const { a, b } = twoNodes({ responseMode: 'json' }, { slow: () => new Promise(() => {}) })
  const client = await openSession(a.handler)
  const gate = b.backend.calls.holdAnswer('sessions.load')
  const onB = client.at(b.handler)
  const running = onB.post({ id: 'mine', method: 'slow' })
  await gate.reached
  const cancelled = onB.notify('notifications/cancelled', { requestId: 'mine' })
  await quiet()
  gate.open()
  expect((await cancelled).status).toBe(202)
  await running
  expect(b.factory.last.methods.slice(-2)).toEqual(['slow', 'notifications/cancelled'])
})

test('a connection that opens after all else has ended here is compared with the store', async () => {
  const pass = fakeTime()
  const { a, shared } = twoNodes()
  const client = await openSession(a.handler)
  const gate = a.backend.calls.hold('events.attach')
  const get = client.get()
  await gate.reached
  await a.factory.last.close()
  await pass(3000)
  gate.open()
  const rest = (await get).rest()
  await shared.sessions.delete(client.sessionId)
  await pass(6000)
  expect(await Promise.race([rest, quiet().then(() => 'still open')])).toEqual([])
})
