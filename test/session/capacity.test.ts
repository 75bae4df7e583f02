/** The places of a node: who counts, who leaves for whom, and that none is lost. */
import { expect, test } from 'vitest'
import { authOf } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { type ScriptedServer, scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { deferred, fakeTime, quiet } from '../harness/time.js'
import { initialize, openSession } from '../harness/wire-client.js'
import { callsByHand } from './calls-by-hand.js'

const statuses = (answers: { status: number }[]) => answers.map(({ status }) => status).sort()

test('sessions that are being built count: of 1,000 that begin at once as many pass as there are places', async () => {
  const factory = scripted()
  const handler = serve(factory, { maxLiveSessions: 10 })
  const answers = await Promise.all(Array.from({ length: 1000 }, () => initialize(handler)))
  expect(statuses(answers)).toEqual([...Array(10).fill(200), ...Array(990).fill(503)])
  expect(factory.servers).toHaveLength(10)
  expect((await handler.status()).liveSessions).toBe(10)
})

test('restores that are under way count, too; what there is no session for takes no place', async () => {
  const backend = gated()
  const elsewhere = serve(scripted(), { backend })
  const clients = await Promise.all(Array.from({ length: 20 }, () => openSession(elsewhere)))
  const hold = deferred()
  const factory = scripted()
  const handler = serve(
    async (context) => {
      await hold.promise
      return factory(context)
    },
    { backend, maxLiveSessions: 5 },
  )
  const nobody = clients[0]?.at(handler)
  Object.assign(nobody ?? {}, { sessionId: 'unknown' })
  expect((await Promise.all(Array.from({ length: 20 }, () => nobody?.request('ping')))).map((a) => a?.status)).toEqual(
    Array(20).fill(404),
  )
  const answers = clients.map((client) => client.on(handler).request('ping'))
  await quiet()
  hold.resolve()
  const done = await Promise.all(answers)
  expect(statuses(done)).toEqual([...Array(5).fill(200), ...Array(15).fill(503)])
  expect((await handler.status()).liveSessions).toBe(5)
})

test('what fails to be built gives its place back', async () => {
  const factory = scripted()
  let broken = true
  const handler = serve(
    (context) => {
      if (broken) throw new Error('no server')
      return factory(context)
    },
    { maxLiveSessions: 1, limits: { principal: 1 } },
  )
  const options = { authInfo: authOf('a') }
  for (let i = 0; i < 3; i++) expect((await initialize(handler, options)).status).toBe(500)
  broken = false
  for (let i = 0; i < 3; i++) {
    const client = await openSession(handler, options)
    await client.get()
    expect((await initialize(handler, options)).status).toBe(429)
    await client.delete()
  }
})

test('a restore that fails does, too', async () => {
  const factory = scripted()
  let broken = true
  const handler = serve(
    (context) => {
      if (context.restored && broken) throw new Error('no server')
      return factory(context)
    },
    { maxLiveSessions: 1 },
  )
  const client = await openSession(handler)
  await openSession(handler)
  for (let i = 0; i < 3; i++) expect((await client.request('ping')).status).toBe(500)
  broken = false
  expect((await client.request('ping')).status).toBe(200)
})

test('a question that was too long to be sent keeps no session in use', async () => {
  const factory = scripted()
  const handler = serve(factory, { maxLiveSessions: 1, limits: { event: 1000 } })
  await openSession(handler)
  await expect(factory.last.ask(1, 'roots/list', { long: 'x'.repeat(1000) })).rejects.toThrow('1000')
  expect((await initialize(handler)).status).toBe(200)
})

test('an initialize that the server answers with an error takes no place', async () => {
  const factory = scripted({
    initialize: () => {
      throw new Error('not you')
    },
  })
  const handler = serve(factory, { maxLiveSessions: 1 })
  for (let i = 0; i < 3; i++) expect((await initialize(handler)).body.error).toBeDefined()
  expect((await handler.status()).refused.full).toBe(0)
})

test('the one idle session is found among many busy ones', async () => {
  const { script, running } = callsByHand()
  const factory = scripted(script)
  const handler = serve(factory, { maxLiveSessions: 101, responseMode: 'json' })
  const clients = []
  for (let i = 0; i < 101; i++) clients.push(await openSession(handler))
  const calls = clients.slice(0, 100).map((client) => client.request('tools/call', { name: 'x' }))
  await quiet()
  expect(running).toHaveLength(100)
  expect((await initialize(handler)).status).toBe(200)
  expect(factory.servers[100]?.closed).toBe(true)
  for (const call of running) call.resolve({})
  expect(statuses(await Promise.all(calls))).toEqual(Array(100).fill(200))
})

test('one that was found busy leaves when it is idle again', async () => {
  const { script, running } = callsByHand()
  const factory = scripted(script)
  const handler = serve(factory, { maxLiveSessions: 1, responseMode: 'json' })
  const call = (await openSession(handler)).request('tools/call', { name: 'x' })
  await quiet()
  expect((await initialize(handler)).status).toBe(503)
  running[0]?.resolve({})
  expect((await call).status).toBe(200)
  expect((await initialize(handler)).status).toBe(200)
})

test('so does one that became idle by what its server no longer wants to know', async () => {
  const pass = fakeTime()
  const factory = scripted()
  const handler = serve(factory, { maxLiveSessions: 1, limits: { principal: 1 } })
  const options = { authInfo: authOf('a') }
  await openSession(handler, options)
  await factory.last.ask(0, 'roots/list')
  expect((await initialize(handler)).status).toBe(503)
  expect((await initialize(handler, options)).status).toBe(429)
  await factory.last.notify('notifications/cancelled', { requestId: 0 })
  await pass(2000)
  expect((await initialize(handler, options)).status).toBe(200)
})

test('of one principal an idle session of its own leaves, not one of others', async () => {
  const factory = scripted()
  const handler = serve(factory, { limits: { principal: 2 } })
  await openSession(handler)
  await openSession(handler, { authInfo: authOf('b') })
  for (let i = 0; i < 3; i++) await openSession(handler, { authInfo: authOf('a') })
  expect(factory.servers.map(({ closed }) => closed)).toEqual([false, false, true, false, false])
})

test('anonymous sessions are nobody’s', async () => {
  const factory = scripted()
  const handler = serve(factory, { limits: { principal: 1 } })
  for (let i = 0; i < 3; i++) await openSession(handler)
  expect((await handler.status()).liveSessions).toBe(3)
})

test('a restore of one principal too many is refused, and not taken for gone', async () => {
  const factory = scripted({ 'tools/call': () => UNANSWERED })
  const handler = serve(factory, { limits: { principal: 1 }, responseMode: 'json' })
  const options = { authInfo: authOf('a') }
  const first = await openSession(handler, options)
  const second = await openSession(handler, options)
  void second.request('tools/call', { name: 'x' })
  await quiet()
  const refused = await first.request('ping')
  expect([refused.status, refused.retryAfter]).toEqual([429, '1'])
  await second.delete()
  expect((await first.request('ping')).status).toBe(200)
})

test('places come free however a session ends: by DELETE, by its server, by being idle', async () => {
  const pass = fakeTime()
  const factory = scripted()
  const handler = serve(factory, { maxLiveSessions: 1, liveIdle: 10_000 })
  const inUse = async () => {
    const client = await openSession(handler)
    const stream = await client.get()
    expect((await initialize(handler)).status).toBe(503)
    return { client, stream, server: factory.last as ScriptedServer }
  }
  await (await inUse()).client.delete()
  await (await inUse()).server.close()
  await quiet()
  await (await inUse()).stream.leave()
  await pass(15_000)
  expect((await handler.status()).liveSessions).toBe(0)
  await inUse()
})
