/** A session that is in the store is restored where a request for it arrives: once, and completely before anybody uses it. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { ServerFactory, SessionStore } from '../../src/index.js'
import { authOf } from '../harness/door.js'
import { handshake, scripted } from '../harness/scripted-server.js'
import { serve, stored } from '../harness/serve.js'
import { deferred, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'
import { until } from '../harness/within.js'

test('a node with the same store goes on with the session of one that is gone, under its id; one without it says 404', async () => {
  const backend = memory()
  const gone = serve(scripted(), { backend })
  const client = await openSession(gone)
  await gone.close()
  const stranger = scripted()
  expect((await client.on(serve(stranger)).request('ping')).status).toBe(404)
  expect(stranger.servers).toEqual([])
  const factory = scripted()
  client.on(serve(factory, { backend }))
  const answers = [
    await client.request('ping'),
    await client.request('ping'),
    await client.notify('notifications/roots/list_changed'),
  ]
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 202])
  expect(answers.map(({ sessionId }) => sessionId)).toEqual(Array(3).fill(client.sessionId))
  expect(factory.last.methods.slice(0, 3)).toEqual(['initialize', 'notifications/initialized', 'ping'])
})

test('a GET restores the session, and what its new instance says arrives; the next request restores nothing', async () => {
  const { backend, client } = await stored()
  const factory = scripted()
  const stream = await client.on(serve(factory, { backend })).get()
  expect(stream).toMatchObject({ status: 200, sessionId: client.sessionId })
  expect(factory.servers).toHaveLength(1)
  await factory.last.say('here I am')
  expect((await stream.next())?.message.params.data).toBe('here I am')
  expect((await client.request('tools/list')).status).toBe(200)
  expect(factory.servers).toHaveLength(1)
  await stream.leave()
})

test('requests that arrive at once share one restore, and are all answered', async () => {
  const { backend, client } = await stored()
  const built = deferred()
  const factory = scripted({}, () => built.promise)
  client.on(serve(factory, { backend }))
  const answers = [client.request('tools/list'), client.request('tools/list'), client.request('ping')]
  await quiet()
  built.resolve()
  for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200)
  expect(factory.servers).toHaveLength(1)
  expect(backend.calls.count('sessions.load')).toBeLessThanOrEqual(2)
})

test('no request reaches a server whose replay is not over, whatever it is that the replay waits for', async () => {
  const { backend, client } = await stored()
  await client.request('logging/setLevel', { level: 'debug' })
  await client.request('resources/subscribe', { uri: 'test://a' })
  for (const held of ['initialize', 'logging/setLevel', 'resources/subscribe']) {
    const replayed = deferred()
    const factory = scripted({
      [held]: async (request) => {
        await replayed.promise
        return request.method === 'initialize' ? handshake(request) : {}
      },
    })
    client.on(serve(factory, { backend }))
    const first = client.request('tools/list')
    await until(() => factory.last?.methods.includes(held) ?? false)
    const racing = client.request('tools/call', { name: 'x' })
    await quiet()
    expect(factory.last.methods).not.toContain('tools/list')
    expect(factory.last.methods).not.toContain('tools/call')
    replayed.resolve()
    expect((await first).status).toBe(200)
    expect((await racing).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
    expect(factory.last.methods.slice(0, 4)).toEqual([
      'initialize',
      'notifications/initialized',
      'logging/setLevel',
      'resources/subscribe',
    ])
  }
})

test('a request that comes while onSessionRestored runs waits for it', async () => {
  const { backend, client } = await stored()
  const hooked = deferred()
  const factory = scripted()
  const handler = serve(factory, { backend, onSessionRestored: () => hooked.promise })
  client.on(handler)
  const first = client.request('tools/list')
  await until(() => factory.last?.methods.includes('notifications/initialized') ?? false)
  const second = client.request('tools/list')
  await quiet()
  expect(factory.last.methods).not.toContain('tools/list')
  hooked.resolve()
  expect([(await first).status, (await second).status]).toEqual([200, 200])
  expect(factory.servers).toHaveLength(1)
})

test('authorizeRestore is asked for each request: one that is refused gets 404, and one that is allowed the session', async () => {
  const { backend, client } = await stored()
  const asked = deferred<boolean>()
  let refusals = 0
  const factory = scripted()
  client.on(serve(factory, { backend, authorizeRestore: () => (refusals++ === 0 ? asked.promise : true) }))
  const early = [client.request('ping'), client.request('ping')]
  await quiet()
  asked.resolve(false)
  const late = early[0]?.then(() => Promise.all([client.request('ping'), client.request('ping')]))
  expect((await Promise.all(early)).map(({ status }) => status)).toEqual([404, 200])
  expect((await late)?.map(({ status }) => status)).toEqual([200, 200])
  expect(factory.servers).toHaveLength(1)
})

test('a request that authorizeRestore holds up does not hand the others an instance that was evicted meanwhile', async () => {
  const { backend, client } = await stored()
  const asked = deferred<boolean>()
  let first = true
  const authorizeRestore = () => {
    const held = first
    first = false
    return held ? asked.promise : true
  }
  client.on(serve(scripted(), { backend, authorizeRestore, liveIdle: 0 }))
  const held = client.request('ping')
  await quiet()
  for (let n = 0; n < 3; n++) expect((await client.request('ping')).status).toBe(200)
  asked.resolve(true)
  expect((await held).status).toBe(200)
})

test('a server that dies at the very moment when it is published: the request is answered by another one', async () => {
  for (let tick = 0; tick < 20; tick++) {
    const { backend, client } = await stored()
    const came = deferred()
    const go = deferred()
    let restores = 0
    const factory = scripted({}, () => {
      if (++restores > 10) throw new Error('restored again and again')
    })
    const handler = serve(factory, {
      backend,
      onSessionRestored: () => {
        came.resolve()
        return go.promise
      },
    })
    const racing = client.on(handler).request('ping')
    await came.promise
    const dying = factory.last
    go.resolve()
    for (let i = 0; i < tick; i++) await undefined
    void dying.close()
    const answer = await racing
    expect([200, 500, 503], `tick ${tick}`).toContain(answer.status)
    expect((await client.request('tools/list')).status, `tick ${tick}`).toBe(200)
    expect(
      factory.servers.flatMap(({ afterClose }) => afterClose),
      `tick ${tick}`,
    ).toEqual([])
    await handler.close()
  }
})

test('the factory, hooks and handlers of a restore are given the auth of the request at hand, never the original’s', async () => {
  const backend = memory()
  const original = { ...authOf('app', 'alice'), token: 'original', scopes: ['admin'] }
  const renewed = { ...authOf('app', 'alice'), token: 'renewed' }
  const contexts: unknown[] = []
  const before = ({ restored, authInfo, session, request }: Parameters<ServerFactory>[0]) =>
    contexts.push([restored, authInfo?.token, session.id, session.restored, request.method])
  const first = scripted({}, before)
  const client = await openSession(serve(first, { backend }), { authInfo: original })
  const factory = scripted({}, before)
  const hooked: unknown[] = []
  client.on(
    serve(factory, {
      backend,
      authorizeRestore: (_, { authInfo }) => hooked.push(authInfo?.token) > 0,
      onSessionRestored: (_, { authInfo }) => void hooked.push(authInfo?.token),
    }),
  )
  await client.request('tools/list', {}, { authInfo: renewed })
  const { sessionId: id } = client
  expect(contexts).toEqual([
    [false, 'original', id, false, 'POST'],
    [true, 'renewed', id, true, 'POST'],
  ])
  expect(hooked).toEqual(['renewed', 'renewed'])
  for (const { message, extra } of factory.last.received.all) {
    expect(extra?.authInfo?.token, JSON.stringify(message)).toBe('renewed')
  }
  expect(JSON.stringify(await backend.sessions.load(id))).not.toContain('original')
})

test('a store of one’s own is a few methods, and needs neither event log nor bus', async () => {
  const records = new Map<string, string>()
  const sessions: SessionStore = {
    create: async (record) => !records.has(record.id) && !!records.set(record.id, JSON.stringify(record)),
    load: async (id) => (records.has(id) ? { record: JSON.parse(records.get(id) as string) } : undefined),
    update: async (record) =>
      records.has(record.id) && records.set(record.id, JSON.stringify(record)) ? {} : undefined,
    touch: async (id) => records.has(id),
    delete: async (id) => (records.delete(id) ? {} : undefined),
    async *list() {
      for (const record of records.values()) yield JSON.parse(record)
    },
  }
  const client = await openSession(serve(scripted(), { backend: { sessions } }))
  client.on(serve(scripted(), { backend: { sessions } }))
  expect((await client.request('resources/subscribe', { uri: 'test://a' })).status).toBe(200)
  expect((await client.delete()).status).toBe(200)
  expect(records.size).toBe(0)
})
