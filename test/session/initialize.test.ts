/** A session id is a promise: it is given out when the record is stored, or nothing is left behind (invariant 2). */
import { expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { authOf } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { handshake, scripted } from '../harness/scripted-server.js'
import { serve, sessionIds } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'
import { initialize, openSession, WireClient } from '../harness/wire-client.js'

test('initialize stores one record: the protocol version, the principal, and what the client said of itself', async () => {
  const backend = memory()
  const { sessionId } = await initialize(serve(scripted(), { backend }))
  const records = []
  for await (const record of backend.sessions.list()) records.push(record)
  expect(records).toHaveLength(1)
  expect(records[0]).toMatchObject({ version: 1, id: sessionId, protocolVersion: '2025-11-25', principal: null })
  expect(records[0]?.journal.initialize.clientInfo).toMatchObject({ name: 'wire-client' })
})

test('a record that is created after initialize has given up on the store does not stay', async () => {
  const shared = gated()
  const pass = fakeTime()
  const handler = serve(scripted(), { backend: shared, backendTimeout: 500 })
  const gate = shared.calls.hold('sessions.create')
  const answer = initialize(handler)
  await gate.reached
  await pass(501)
  expect((await answer).status).toBe(503)
  await quiet()
  gate.open()
  await quiet()
  expect(await sessionIds(handler)).toEqual([])
})

test('an id that is taken is not given out a second time: the new server is closed, whoever has the id is undisturbed', async () => {
  const shared = gated()
  const factory = scripted()
  const handler = serve(factory, { backend: shared, sessionIdGenerator: () => 'always-the-same' })
  const first = await openSession(handler, { authInfo: authOf('alice') })
  const answer = await initialize(handler, { authInfo: authOf('bob') })
  expect(answer.status).toBeGreaterThanOrEqual(500)
  expect(answer.sessionId).toBeUndefined()
  expect(factory.last.closed).toBe(true)
  expect((await first.request('tools/list')).status).toBe(200)
  expect(factory.servers[0]?.closed).toBe(false)
  await quiet()
  expect(await sessionIds(handler)).toEqual(['always-the-same'])
})

test('what a server says during a handshake that comes to nothing is not kept, and reaches nobody', async () => {
  const shared = gated()
  let secret = 'of alice'
  const factory = scripted({
    initialize: (request, server) => {
      void server.say(secret)
      return handshake(request)
    },
  })
  const handler = serve(factory, { backend: shared, sessionIdGenerator: () => 'always-the-same' })
  const alice = await openSession(handler, { authInfo: authOf('alice') })
  secret = 'of bob'
  expect((await initialize(handler, { authInfo: authOf('bob') })).status).toBeGreaterThanOrEqual(500)
  await quiet()
  const stream = await alice.get()
  const seen: string[] = []
  const reading = (async () => {
    for await (const { message } of stream) seen.push(message.params.data)
  })()
  await quiet()
  await stream.leave()
  await reading
  expect(seen).not.toContain('of bob')
})

const thrown = new Error('secret of the factory')
const failing: Record<string, { before?: () => never; connect?: boolean; hook?: boolean }> = {
  'the factory throws': {
    before: () => {
      throw thrown
    },
  },
  'connect throws': { connect: true },
  'the hook throws': { hook: true },
}

test.each(Object.entries(failing))(
  'when %s, initialize is 500, nothing is left, and the next one works',
  async (_, where) => {
    const shared = gated()
    let broken = true
    const factory = scripted({}, () => {
      if (broken) where.before?.()
    })
    const onerror = vi.fn()
    const handler = serve(
      (context) => {
        const server = factory(context) as ReturnType<typeof factory> & { connect(): Promise<void> }
        if (where.connect && broken) server.connect = () => Promise.reject(thrown)
        return server
      },
      {
        backend: shared,
        onerror,
        onSessionInitialized: () => {
          if (where.hook && broken) throw thrown
        },
      },
    )
    const answer = await initialize(handler)
    expect(answer.status).toBe(500)
    expect(answer.sessionId).toBeUndefined()
    expect(JSON.stringify(answer.body)).not.toContain('secret')
    expect(onerror).toHaveBeenCalledWith(thrown)
    if (!where.before) expect(factory.last.closed).toBe(true)
    await quiet()
    expect(await sessionIds(handler)).toEqual([])
    broken = false
    const client = await openSession(handler)
    expect((await client.request('tools/list')).status).toBe(200)
  },
)

test('a session that its own hook deletes before the id is given out is never served', async () => {
  const shared = gated()
  const factory = scripted()
  const handler = serve(factory, {
    backend: shared,
    // as a host does that allows so many sessions and no more
    onSessionInitialized: async (session) => {
      await handler.sessions.delete(session.id)
    },
  })
  const answer = await initialize(handler)
  await quiet()
  if (answer.sessionId !== undefined) {
    const client = new WireClient(handler, answer.sessionId)
    expect((await client.request('tools/list')).status).toBe(404)
  }
  expect(factory.last.closed).toBe(true)
  expect(factory.last.methods).not.toContain('tools/list')
})

test('closing the handler during an initialize leaves no server behind', async () => {
  const built = deferred()
  const factory = scripted({}, () => built.promise)
  const handler = serve(factory)
  const answer = initialize(handler)
  await quiet()
  await handler.close()
  built.resolve()
  await answer
  await quiet()
  for (const server of factory.servers) expect(server.closed).toBe(true)
})
