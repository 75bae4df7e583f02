/**
 * Two nodes create, restore, use and delete the same session at the same time, in every order that one held-up call of the
 * backend can force, on every backend (contract, invariants 1, 2, 3 and 6).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SessionHandler, SessionHandlerOptions } from '../../src/index.js'
import { describeBackends, type Place } from '../harness/backends.js'
import { type GatedBackend, gated } from '../harness/gated-backend.js'
import type { Answer } from '../harness/reply.js'
import { type ScriptedFactory, type ScriptedServer, scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { deferred } from '../harness/time.js'
import { initialize, openSession, WireClient } from '../harness/wire-client.js'
import { until, within } from '../harness/within.js'
import { unique } from '../services/use.js'

interface Node {
  handler: SessionHandler
  backend: GatedBackend
  factory: ScriptedFactory
}

/** Until it has happened, or is held up with nobody to tell: long enough for whatever needs no one's leave, in ms. */
const A_WHILE = 150

async function aWhile(work: Promise<unknown>): Promise<void> {
  await Promise.race([work, new Promise((resolve) => setTimeout(resolve, A_WHILE))])
}

/** The instance that got a request. */
async function serverOf({ factory }: Node, method: string): Promise<ScriptedServer> {
  const isIt = ({ message }: { message: object }) => 'method' in message && message.method === method
  return (await factory.received.first(isIt, `${method} at a server`)).server
}

describeBackends((open) => {
  let place: Place
  beforeAll(() => {
    place = open()
  })
  // the data are shared by all tests, the nodes are new in each
  afterAll(() => place.close())

  function start(options: SessionHandlerOptions = {}): [Node, Node] {
    const both = place.backends.map((inner) => {
      const backend = gated(inner)
      const factory = scripted({ 'tools/call': () => UNANSWERED, slow: () => UNANSWERED })
      return { backend, factory, handler: serve(factory, { backend, ...options }) }
    })
    return both as [Node, Node]
  }

  const ping = ({ handler }: Node, id: string) => new WireClient(handler, id).request('ping')
  const stored = async (id: string) => (await place.backends[0].sessions.load(id))?.record

  /** Nothing of it is served anywhere, from now on. */
  async function expectGone(both: readonly Node[], id: string): Promise<void> {
    for (const node of both) {
      const { status, body } = await ping(node, id)
      expect(status).toBe(404)
      expect(body.error.code).toBe(-32001)
      const get = await new WireClient(node.handler, id).get()
      expect(get.status).toBe(404)
      await get.leave()
      for (const server of node.factory.servers.filter(({ context }) => context.session.id === id)) {
        expect(server.closed, 'the instance is closed').toBe(true)
      }
    }
    expect(await stored(id)).toBeUndefined()
    for (const backend of place.backends) expect(await backend.sessions.load(id)).toBeUndefined()
  }

  /** What a restore, and the first request after it, ask of the backend. */
  const RESTORE_CALLS = ['sessions.load', 'sessions.touch', 'bus.subscribe', 'bus.beat'] as const
  const DELETE_CALLS = ['sessions.load', 'sessions.delete', 'events.delete', 'bus.nodes', 'bus.publish'] as const
  const HOLDS = ['hold', 'holdAnswer'] as const

  describe('a restore on B, held up at', () => {
    const points = RESTORE_CALLS.flatMap((call) => HOLDS.map((how) => [call, how] as const))
    test.each(points)('%s (%s), and a DELETE on A meanwhile: gone for good', async (call, how) => {
      const [a, b] = start()
      const { sessionId } = await openSession(a.handler)
      const gate = b.backend.calls[how](call)
      const request = ping(b, sessionId)
      await within(gate.reached, call)
      const deleting = new WireClient(a.handler, sessionId).delete()
      // A may have to wait for B
      await aWhile(deleting)
      gate.open()
      expect((await within(deleting, 'DELETE')).status).toBe(200)
      // begun before the DELETE was answered, it may have been in time
      expect([200, 404]).toContain((await within(request, 'the request')).status)
      await expectGone([a, b], sessionId)
    })

    test('the factory, and a DELETE on A meanwhile: 404, and the new instance is closed', async () => {
      const [a] = start()
      const built = deferred()
      const started = deferred()
      const backend = gated(place.backends[1])
      const factory = scripted({}, ({ restored }) => {
        if (!restored) return undefined
        started.resolve()
        return built.promise
      })
      const b: Node = { backend, factory, handler: serve(factory, { backend }) }
      const { sessionId } = await openSession(a.handler)
      const request = ping(b, sessionId)
      await started.promise
      const deleting = new WireClient(a.handler, sessionId).delete()
      await aWhile(deleting)
      built.resolve()
      expect((await within(deleting, 'DELETE')).status).toBe(200)
      expect((await within(request, 'the request')).status).toBe(404)
      await expectGone([a, b], sessionId)
    })
  })

  describe('a DELETE on A, held up at', () => {
    const points = DELETE_CALLS.flatMap((call) => HOLDS.map((how) => [call, how] as const))
    test.each(points)('%s (%s), and B uses the session: gone for good', async (call, how) => {
      const [a, b] = start()
      const { sessionId } = await openSession(a.handler)
      // Only who holds the session is told.
      if (call.startsWith('bus.')) await ping(b, sessionId)
      const gate = a.backend.calls[how](call)
      const deleting = new WireClient(a.handler, sessionId).delete()
      await within(gate.reached, call)
      const used = ping(b, sessionId)
      await aWhile(used)
      gate.open()
      expect((await within(deleting, 'DELETE')).status).toBe(200)
      expect([200, 404]).toContain((await within(used, 'the request')).status)
      await expectGone([a, b], sessionId)
    })

    test.each(points)('%s (%s), while B runs a call: aborted, without a response', async (call, how) => {
      const [a, b] = start({ responseMode: 'sse' })
      const { sessionId } = await openSession(a.handler)
      const client = new WireClient(b.handler, sessionId)
      const running = client.request('slow')
      const server = await serverOf(b, 'slow')
      const gate = a.backend.calls[how](call)
      const deleting = new WireClient(a.handler, sessionId).delete()
      await within(gate.reached, call)
      gate.open()
      expect((await within(deleting, 'DELETE')).status).toBe(200)
      const { events } = await within(running, 'the stream')
      expect(events).toEqual([])
      expect(server.closed).toBe(true)
      // what it says now is nobody's
      await server.respond(server.all('slow')[0]!).catch(() => {})
      await expectGone([a, b], sessionId)
    })

    test.each(points)('%s (%s), and a DELETE on B: both end, one did it', async (call, how) => {
      const [a, b] = start()
      const { sessionId } = await openSession(a.handler)
      await ping(b, sessionId)
      const gate = a.backend.calls[how](call)
      const first = new WireClient(a.handler, sessionId).delete()
      await within(gate.reached, call)
      const second = new WireClient(b.handler, sessionId).delete()
      await aWhile(second)
      gate.open()
      const statuses = [(await within(first, 'A')).status, (await within(second, 'B')).status]
      expect(statuses.sort()).toEqual([200, 404])
      await expectGone([a, b], sessionId)
    })
  })

  describe('an initialize on A, held up at', () => {
    test.each(HOLDS)('sessions.create (%s), and B asked for the id: all or nothing', async (how) => {
      const id = unique()
      const [a, b] = start({ sessionIdGenerator: () => id })
      const gate = a.backend.calls[how]('sessions.create')
      const creating = initialize(a.handler)
      await within(gate.reached, 'create')
      // 404 before it is stored, 200 after, and nothing else
      expect((await ping(b, id)).status).toBe(how === 'hold' ? 404 : 200)
      gate.open()
      const { status, sessionId } = await within(creating, 'initialize')
      expect([status, sessionId]).toEqual([200, id])
      for (const node of [a, b]) expect((await ping(node, id)).status).toBe(200)
    })

    test.each(HOLDS)('sessions.create (%s), and B deletes it: gone for good', async (how) => {
      const id = unique()
      const [a, b] = start({ sessionIdGenerator: () => id })
      const gate = a.backend.calls[how]('sessions.create')
      const creating = initialize(a.handler)
      await within(gate.reached, 'create')
      const existed = await b.handler.sessions.delete(id)
      expect(existed).toBe(how === 'holdAnswer')
      gate.open()
      const { status } = await within(creating, 'initialize')
      if (existed) {
        // an id that was given out after all is one that is gone
        expect([200, 404, 503]).toContain(status)
        await expectGone([a, b], id)
      } else {
        // nobody knew of it: there was nothing to delete
        expect(status).toBe(200)
        expect((await ping(b, id)).status).toBe(200)
      }
    })

    test('sessions.create, with the same id on both nodes: one gets it', async () => {
      const id = unique()
      const [a, b] = start({ sessionIdGenerator: () => id })
      const gates = [a, b].map(({ backend }) => backend.calls.hold('sessions.create'))
      const creating = [a, b].map(({ handler }) => initialize(handler))
      for (const gate of gates) await within(gate.reached, 'create')
      for (const gate of gates) gate.open()
      const statuses = (await Promise.all(creating)).map(({ status }) => status)
      expect(statuses.filter((status) => status === 200)).toHaveLength(1)
      expect(Math.max(...statuses)).toBeGreaterThanOrEqual(500)
      expect(await stored(id)).toMatchObject({ id, revision: 1 })
      for (const node of [a, b]) expect((await ping(node, id)).status).toBe(200)
    })

    test.each(HOLDS)(
      'sessions.create (%s) until the store is said to have failed: 503, nothing left behind',
      async (how) => {
        const id = unique()
        const [a, b] = start({ sessionIdGenerator: () => id })
        const gate = a.backend.calls[how]('sessions.create')
        const creating = initialize(a.handler)
        await within(gate.reached, 'create')
        gate.fail()
        const { status, sessionId, retryAfter } = await within(creating, 'initialize')
        expect([status, sessionId]).toEqual([503, undefined])
        expect(retryAfter).toBeDefined()
        expect(a.factory.last.closed).toBe(true)
        await until(async () => (await stored(id)) === undefined)
        await expectGone([a, b], id)
      },
    )
  })

  describe('late writers', () => {
    const updates = [
      ['logging/setLevel', { level: 'info' }],
      ['resources/subscribe', { uri: 'file:///x' }],
    ] as const
    const points = updates.flatMap(([method, params]) => HOLDS.map((how) => [method, how, params] as const))
    test.each(points)(
      '%s on B held up at sessions.update (%s), a DELETE on A: not brought back',
      async (method, how, params) => {
        const [a, b] = start()
        const { sessionId } = await openSession(a.handler)
        await ping(b, sessionId)
        const gate = b.backend.calls[how]('sessions.update')
        const writing = new WireClient(b.handler, sessionId).request(method, params)
        await within(gate.reached, 'update')
        const deleting = new WireClient(a.handler, sessionId).delete()
        await aWhile(deleting)
        gate.open()
        expect((await within(deleting, 'DELETE')).status).toBe(200)
        const { status, body } = await within(writing, 'the request')
        // stored before it was deleted, or not at all
        if (status === 200 && body?.result) expect(how).toBe('holdAnswer')
        await expectGone([a, b], sessionId)
      },
    )

    test.each(HOLDS)('a touch held up (%s) beyond a DELETE: not brought back', async (how) => {
      const [a, b] = start()
      const { sessionId } = await openSession(a.handler)
      const gate = b.backend.calls[how]('sessions.touch')
      const request = ping(b, sessionId)
      await within(gate.reached, 'touch')
      expect((await within(new WireClient(a.handler, sessionId).delete(), 'DELETE')).status).toBe(200)
      gate.open()
      await request
      await expectGone([a, b], sessionId)
    })

    test.each(HOLDS)('an event held up (%s) beyond a DELETE: no stream comes back', async (how) => {
      const [a, b] = start({ responseMode: 'sse' })
      const { sessionId } = await openSession(a.handler)
      const running = new WireClient(b.handler, sessionId).request('slow')
      const server = await serverOf(b, 'slow')
      const gate = b.backend.calls[how]('events.append')
      void server.say(1, server.all('slow')[0]!.id)
      await within(gate.reached, 'append')
      expect((await within(new WireClient(a.handler, sessionId).delete(), 'DELETE')).status).toBe(200)
      gate.open()
      expect((await within(running, 'the stream')).events.filter(({ message }) => !message.method)).toEqual([])
      await expectGone([a, b], sessionId)
      expect(await place.backends[0].events?.open(sessionId, 'standalone', { head: '{}' })).toBe(false)
    })
  })

  describe('both nodes restore the session at once', () => {
    test.each(RESTORE_CALLS)('with A held up at %s: both serve it', async (call) => {
      const [seed] = start()
      const { sessionId } = await openSession(seed.handler)
      const [a, b] = start()
      const gate = a.backend.calls.hold(call)
      const first = ping(a, sessionId)
      await within(gate.reached, call)
      expect((await within(ping(b, sessionId), 'B')).status).toBe(200)
      gate.open()
      expect((await within(first, 'A')).status).toBe(200)
    })

    const changes = RESTORE_CALLS.flatMap((call) => HOLDS.map((how) => [call, how] as const))
    test.each(changes)('with A held up at %s (%s) while B sets the level: in force on A', async (call, how) => {
      const [seed] = start()
      const { sessionId } = await openSession(seed.handler)
      const [a, b] = start()
      const gate = a.backend.calls[how](call)
      const first = ping(a, sessionId)
      await within(gate.reached, call)
      const setting = new WireClient(b.handler, sessionId).request('logging/setLevel', { level: 'error' })
      await aWhile(setting)
      gate.open()
      expect((await within(setting, 'setLevel')).body.result).toEqual({})
      expect((await within(first, 'A')).status).toBe(200)
      expect((await ping(a, sessionId)).status).toBe(200)
      const levels = () => a.factory.last.all('logging/setLevel').map(({ params }) => params?.level)
      await until(async () => levels().at(-1) === 'error')
    })

    test('and both subscribe, neither knowing of the other: both subscriptions are kept', async () => {
      const [a, b] = start()
      const { sessionId } = await openSession(a.handler)
      await ping(b, sessionId)
      const gates = [a, b].map(({ backend }) => backend.calls.hold('sessions.update'))
      const subscribing = [a, b].map(({ handler }, index) =>
        new WireClient(handler, sessionId).request('resources/subscribe', { uri: `file:///${index}` }),
      )
      for (const gate of gates) await within(gate.reached, 'update')
      for (const gate of gates) gate.open()
      const answers: Answer[] = await within(Promise.all(subscribing), 'both')
      expect(answers.map(({ status }) => status)).toEqual([200, 200])
      const record = await stored(sessionId)
      expect(record?.journal.subscriptions.sort()).toEqual(['file:///0', 'file:///1'])
    })
  })

  describe('an answer to what B asks, held up on its way from A', () => {
    test.each(HOLDS)('at bus.publish (%s), and the session is deleted: not 202 for nobody', async (how) => {
      const [a, b] = start({ responseMode: 'sse' })
      const { sessionId } = await openSession(a.handler, { capabilities: { elicitation: {} } })
      const stream = await new WireClient(b.handler, sessionId).open({ id: 'call', method: 'slow' })
      const server = await serverOf(b, 'slow')
      const reading = stream.rest()
      const asked = b.backend.calls.holdAnswer('events.append')
      void server.ask(0, 'elicitation/create', { message: '?' }, 'call')
      const [, , batch] = (await within(asked.reached, 'the question')) as [unknown, unknown, { events: string[] }]
      asked.open()
      const { id } = JSON.parse(batch.events.at(-1)!) as { id: string }
      await ping(a, sessionId)
      const gate = a.backend.calls[how]('bus.publish')
      const answering = new WireClient(a.handler, sessionId).respond(id, { action: 'decline' })
      await within(gate.reached, 'publish')
      expect((await within(new WireClient(b.handler, sessionId).delete(), 'DELETE')).status).toBe(200)
      gate.open()
      const { status } = await within(answering, 'the answer')
      if (status === 202) expect(server.answers).toHaveLength(1)
      await within(reading, 'the stream')
      await expectGone([a, b], sessionId)
    })
  })
})
