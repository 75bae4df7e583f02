/** DELETE is final (invariant 6). */
import { describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { createSessionHandler, type SessionHandler } from '../../src/index.js'
import { type Gate, type GatedBackend, gated } from '../harness/gated-backend.js'
import { handshake, type Script, scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve, sessionIds, stored } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'
import { initialize, openSession, WireClient } from '../harness/wire-client.js'

/** How many turns of the microtask queue around a moment are tried. */
const TICKS = 40

test('DELETE on a node that never had the session ends it everywhere, and nothing is left in the store', async () => {
  const backend = memory()
  const nodes = [1, 2, 3].map(() => serve(scripted(), { backend })) as [SessionHandler, SessionHandler, SessionHandler]
  const client = await openSession(nodes[0])
  await client.on(nodes[1]).request('ping')
  expect((await client.on(nodes[2]).delete()).status).toBe(200)
  for (const node of [...nodes, serve(scripted(), { backend })]) {
    expect(await sessionIds(node)).toEqual([])
    expect((await client.on(node).request('ping')).status).toBe(404)
  }
})

test.each(['throws', 'never ends'])('DELETE is final even if the server’s close %s', async (how) => {
  const factory = scripted({ 'tools/call': () => UNANSWERED })
  const onSessionClosed = vi.fn()
  const shared = gated()
  const handler = createSessionHandler(
    (context) =>
      Object.assign(factory(context) as object, {
        close: () => (how === 'throws' ? Promise.reject(new Error('no')) : UNANSWERED),
      }) as never,
    { backend: shared, upgradeAfter: 0, onSessionClosed },
  )
  const client = await openSession(handler)
  const standalone = await client.get()
  const running = await client.open({ id: 7, method: 'tools/call', params: { name: 'x' } })
  const deleted = client.delete()
  expect(await running.rest()).toEqual([])
  expect(await standalone.rest()).toEqual([])
  expect(await sessionIds(handler)).toEqual([])
  expect((await deleted).status).toBe(200)
  expect(onSessionClosed).toHaveBeenCalledOnce()
  expect((await client.request('tools/list')).status).toBe(404)
})

test('DELETE on another node ends a stream that is just being opened here', async () => {
  const pass = fakeTime()
  const inner = memory()
  const backend = gated(inner)
  const far = gated(inner)
  const here = serve(scripted(), { backend })
  const there = serve(scripted(), { backend: far })
  const client = await openSession(here)
  const attached = backend.calls.holdAnswer('events.attach')
  const opening = client.get()
  await attached.reached
  const clearing = far.calls.hold('events.delete')
  const deleted = new WireClient(there, client.sessionId).delete()
  await clearing.reached
  await quiet()
  attached.open()
  const stream = await opening
  clearing.open()
  expect((await deleted).status).toBe(200)
  const reading = stream.answer()
  await pass(5000)
  const answer = await reading
  expect(answer.events).toEqual([])
  if (answer.status !== 200) expect(answer.status).toBe(404)
})

test('DELETE of a session that is only just being initialized ends it, at whatever moment it comes', async () => {
  for (let tick = 0; tick < TICKS; tick++) {
    const go = deferred()
    const hooked = deferred<string>()
    const factory = scripted()
    const handler = serve(factory, {
      onSessionInitialized: ({ id }) => {
        hooked.resolve(id)
        return go.promise
      },
    })
    const answer = initialize(handler)
    const id = await hooked.promise
    const deleted = handler.sessions.delete(id)
    for (let i = 0; i < tick; i++) await undefined
    go.resolve()
    expect(await deleted).toBe(true)
    await answer
    expect((await new WireClient(handler, id).request('tools/list')).status, `tick ${tick}`).toBe(404)
    expect(factory.last.closed, `tick ${tick}`).toBe(true)
    await handler.close()
  }
})

test('an update of the record that comes after the DELETE changes nothing: 404', async () => {
  const { backend, client } = await stored()
  const factory = scripted()
  const handler = serve(factory, { backend })
  client.on(handler)
  await client.request('ping')
  const gate = backend.calls.hold('sessions.update')
  const late = client.request('resources/subscribe', { uri: 'test://late' })
  await gate.reached
  expect((await client.delete()).status).toBe(200)
  gate.open()
  expect((await late).status).toBe(404)
  await quiet()
  expect(await sessionIds(handler)).toEqual([])
  expect((await client.request('ping')).status).toBe(404)
})

/** Where a restoring request is held up, and how it goes on. */
interface Held {
  script?: Script
  /** Called by the factory, and by `onSessionRestored`. */
  factory?(): Promise<void>
  hook?(): Promise<void>
  reached: Promise<unknown>
  go(): void
  /** The DELETE has its answer before the restore goes on. */
  apart?: true
}

function holdUp(): Pick<Held, 'reached' | 'go'> & { wait(): Promise<void> } {
  const came = deferred()
  const gate = deferred()
  const wait = async () => {
    came.resolve()
    await gate.promise
  }
  return { reached: came.promise, go: gate.resolve, wait }
}

const BEFORE_THE_STORE: Record<string, (backend: GatedBackend) => Held> = {
  'before the record is loaded': ({ calls }) => at(calls.hold('sessions.load')),
  'while the node begins to listen': ({ calls }) => at(calls.hold('bus.subscribe')),
}

const AT_THE_STORE: Record<string, (backend: GatedBackend) => Held> = {
  ...BEFORE_THE_STORE,
  'after the record is loaded': ({ calls }) => at(calls.holdAnswer('sessions.load')),
}

const AT_WORK: Record<string, () => Held> = {
  'in the factory': () => {
    const { wait, ...held } = holdUp()
    return { ...held, factory: wait, apart: true }
  },
  'in the replay': () => {
    const { wait, ...held } = holdUp()
    return { ...held, script: { initialize: (request) => wait().then(() => handshake(request)) } }
  },
  'in onSessionRestored': () => {
    const { wait, ...held } = holdUp()
    return { ...held, hook: wait, apart: true }
  },
}

const at = (gate: Gate): Held => ({ reached: gate.reached, go: () => gate.open() })

// Where a message is lost that comes later than those, staleness bounds what is served: see staleness.test.ts.
describe.each([
  ['on this node', Object.entries({ ...AT_THE_STORE, ...AT_WORK })],
  ['on another node', Object.entries({ ...AT_THE_STORE, ...AT_WORK })],
  ['on another node whose message is lost', Object.entries(BEFORE_THE_STORE)],
])('DELETE %s during a restore', (where, phases) => {
  test.each(phases)(
    '%s: 404 for who waits, the new instance is closed, and nothing is restored again',
    async (_, phase) => {
      const inner = memory()
      const { client } = await stored({ backend: gated(inner) })
      const backend = gated(inner)
      const held = phase(backend)
      const factory = scripted(held.script, () => held.factory?.())
      const here = serve(factory, { backend, onSessionRestored: () => held.hook?.() })
      const lost = where.endsWith('lost') && { bus: memory().bus! }
      const there = serve(scripted(), { backend: gated({ ...inner, ...lost }) })
      const racing = client.at(here).request('tools/list')
      await held.reached
      const deleted = client.on(where === 'on this node' ? here : there).delete()
      if (held.apart) expect((await deleted).status).toBe(200)
      await quiet()
      held.go()
      expect((await deleted).status).toBe(200)
      expect((await racing).status).toBe(404)
      await quiet()
      for (const server of factory.servers) {
        expect(server.closed).toBe(true)
        expect(server.methods).not.toContain('tools/list')
      }
      const built = factory.servers.length
      expect((await client.on(here).request('tools/list')).status).toBe(404)
      expect(factory.servers).toHaveLength(built)
    },
  )
})

test('DELETE at the very moment when a restored session is published: it is not served any more', async () => {
  for (let tick = 0; tick < TICKS; tick++) {
    const { backend, client } = await stored()
    const came = deferred()
    const go = deferred()
    const factory = scripted()
    const handler = serve(factory, {
      backend,
      onSessionRestored: () => {
        came.resolve()
        return go.promise
      },
    })
    const racing = client.on(handler).request('ping')
    await came.promise
    const deleted = handler.sessions.delete(client.sessionId)
    for (let i = 0; i < tick; i++) await undefined
    go.resolve()
    expect(await deleted).toBe(true)
    expect([200, 404], `tick ${tick}`).toContain((await racing).status)
    expect((await client.request('tools/list')).status, `tick ${tick}`).toBe(404)
    expect(factory.last.closed, `tick ${tick}`).toBe(true)
    await handler.close()
  }
})
