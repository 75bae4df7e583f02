/** A session belongs to whoever initialized it, and is for everybody else no session at all (invariant 7). */
import { describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { AuthInfo, SessionHandler, SessionHandlerOptions } from '../../src/index.js'
import { authOf } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import type { Answer, Reply } from '../harness/reply.js'
import { type ScriptedServer, scripted } from '../harness/scripted-server.js'
import { serve, stored } from '../harness/serve.js'
import { deferred } from '../harness/time.js'
import { openSession, type WireClient } from '../harness/wire-client.js'

/** Every way into a session, with another's auth. */
async function knock(client: WireClient, authInfo: AuthInfo | undefined) {
  const options = { authInfo }
  return {
    request: await client.request('tools/list', {}, options),
    notification: await client.notify('notifications/roots/list_changed', {}, options),
    initialized: await client.notify('notifications/initialized', {}, options),
    response: await client.respond('x', {}, options),
    cancelled: await client.notify('notifications/cancelled', { requestId: 1 }, options),
    GET: await ended(await client.get(undefined, options)),
    DELETE: await client.delete(options),
  }
}

/** The answer to a GET; one that should not have been a stream is not read to its end. */
async function ended(reply: Reply): Promise<Answer> {
  if (reply.status === 200) await reply.leave()
  return reply.answer()
}

async function expectShutOut(client: WireClient, authInfo: AuthInfo | undefined): Promise<void> {
  for (const [way, answer] of Object.entries(await knock(client, authInfo))) {
    expect(answer.status, way).toBe(404)
    expect(answer.body.error, way).toEqual({ code: -32001, message: 'Session not found' })
    expect(answer.sessionId, way).toBeUndefined()
  }
}

const alice = authOf('app', 'alice')

const STRANGERS: [what: string, owner: AuthInfo | undefined, stranger: AuthInfo | undefined][] = [
  ['another subject of the same client', alice, authOf('app', 'bob')],
  ['the same subject of another client', alice, authOf('other-app', 'alice')],
  ['the client without a subject', alice, authOf('app')],
  ['a subject, of a session of the client itself', authOf('app'), alice],
  ['nobody in particular', alice, undefined],
  ['somebody, of a session that is nobody’s', undefined, alice],
  ['a client whose id looks like subject and client', alice, authOf('alice@app')],
  ['a client whose id is the empty string, of a session that is nobody’s', undefined, authOf('')],
  ['a subject that ends where a client begins', authOf('b@c', 'a'), authOf('c', 'a@b')],
  ['a subject that is undefined in words', authOf('app'), authOf('app', 'undefined')],
]

describe.each(STRANGERS)('%s', (_, owner, stranger) => {
  test('is told that there is no such session, live or restored, and nothing is set in motion', async () => {
    const backend = gated()
    const here = scripted()
    const client = await openSession(serve(here, { backend }), { authInfo: owner })
    await expectShutOut(client, stranger)
    expect(here.last.methods).toEqual(['initialize', 'notifications/initialized'])

    const authorizeRestore = vi.fn(() => true)
    const onSessionRestored = vi.fn()
    const onSessionClosed = vi.fn()
    const there = scripted()
    client.on(serve(there, { backend, authorizeRestore, onSessionRestored, onSessionClosed }))
    backend.calls.reset()
    await expectShutOut(client, stranger)
    expect(there.servers).toHaveLength(0)
    expect(authorizeRestore).not.toHaveBeenCalled()
    expect(onSessionRestored).not.toHaveBeenCalled()
    expect(onSessionClosed).not.toHaveBeenCalled()
    for (const change of ['update', 'touch', 'delete', 'create', 'setState']) {
      expect(backend.calls.count(`sessions.${change}`), change).toBe(0)
    }

    // its owner goes on undisturbed
    expect((await client.request('tools/list')).status).toBe(200)
    await expectShutOut(client, stranger)
    expect((await client.request('tools/list')).status).toBe(200)
    expect((await client.delete()).status).toBe(200)
  })
})

test('a foreign session is answered exactly like one that never was', async () => {
  const handler = serve(scripted())
  const client = await openSession(handler, { authInfo: alice })
  const foreign = await knock(client, authOf('mallory'))
  const never = await openSession(handler, { authInfo: alice })
  await never.delete()
  expect(foreign).toEqual(await knock(never, authOf('mallory')))
})

test('a restore never re-binds: whoever restores it, it stays its owner’s', async () => {
  const backend = memory()
  const client = await openSession(serve(scripted(), { backend }), { authInfo: alice })
  const before = (await backend.sessions.load(client.sessionId))?.record.principal
  for (let node = 0; node < 3; node++) {
    client.on(serve(scripted(), { backend }))
    expect((await client.request('resources/subscribe', { uri: `test://${node}` })).status).toBe(200)
    await expectShutOut(client, authOf('app', 'bob'))
    await expectShutOut(client, undefined)
  }
  expect((await backend.sessions.load(client.sessionId))?.record.principal).toBe(before)
})

test('an anonymous session is not adopted by the first who shows a token', async () => {
  const backend = memory()
  const client = await openSession(serve(scripted(), { backend }))
  client.on(serve(scripted(), { backend }))
  expect((await client.request('tools/list', {}, { authInfo: alice })).status).toBe(404)
  expect((await client.request('tools/list')).status).toBe(200)
  expect((await client.request('tools/list', {}, { authInfo: alice })).status).toBe(404)
  expect((await backend.sessions.load(client.sessionId))?.record.principal).toBeNull()
})

test('the owner may come back with another token, and with more scopes', async () => {
  const client = await openSession(serve(scripted()), { authInfo: alice })
  const renewed: AuthInfo = { ...alice, token: 'renewed', scopes: ['all'], expiresAt: 1 }
  expect((await client.request('tools/list', {}, { authInfo: renewed })).status).toBe(200)
})

test('the record holds a hash that is salted with the session: neither names nor equal for two sessions of one person', async () => {
  const backend = memory()
  const handler = serve(scripted(), { backend })
  const one = await openSession(handler, { authInfo: alice })
  const two = await openSession(handler, { authInfo: alice })
  const records = await Promise.all([one, two].map(({ sessionId }) => backend.sessions.load(sessionId)))
  const [first, second] = records.map((stored) => stored?.record.principal)
  expect(first).toMatch(/^[\w-]{43}$/)
  expect(first).not.toBe(second)
  for (const secret of ['alice', alice.token, '"app']) expect(JSON.stringify(records)).not.toContain(secret)
})

test('the principal can be seen by the server, the request’s own auth with each message', async () => {
  const backend = memory()
  const seen: unknown[] = []
  const factory = scripted({
    'tools/list': (_, { context }, extra) => {
      seen.push([context.session.principal, extra?.authInfo?.token])
      return {}
    },
  })
  const client = await openSession(serve(factory, { backend }), { authInfo: alice })
  const renewed = { ...alice, token: 'renewed' }
  await client.request('tools/list', {}, { authInfo: renewed })
  client.on(serve(factory, { backend }))
  await client.request('tools/list', {}, { authInfo: renewed })
  expect(seen).toEqual([
    ['alice@app', 'renewed'],
    ['alice@app', 'renewed'],
  ])
})

describe('the principal option', () => {
  const tenantOf = (_: AuthInfo | undefined, request: Request) => request.headers.get('x-tenant') ?? undefined
  const as = (tenant: string) => ({ headers: { 'x-tenant': tenant } })

  test.each([
    ['sync', tenantOf],
    ['async', async (authInfo: AuthInfo | undefined, request: Request) => tenantOf(authInfo, request)],
  ])(
    '%s: says whom a session belongs to, whatever the auth says',
    async (_, principal) => {
      const backend = gated()
      const [here, there] = [1, 2].map(() => serve(scripted(), { backend, principal })) as [
        SessionHandler,
        SessionHandler,
      ]
      const client = await openSession(here, { ...as('red'), authInfo: alice })
      for (const node of [here, there]) {
        client.on(node)
        expect((await client.request('ping', {}, as('blue'))).status).toBe(404)
        expect((await client.get(undefined, as('blue'))).status).toBe(404)
        expect((await client.delete(as('blue'))).status).toBe(404)
        expect((await client.request('ping', {}, { headers: { 'x-tenant': undefined } })).status).toBe(404)
        expect((await client.request('ping', {}, { ...as('red'), authInfo: authOf('someone', 'else') })).status).toBe(
          200,
        )
      }
    },
    5000,
  )

  test('that throws fails the request, and nothing else', async () => {
    let broken = false
    const factory = scripted()
    const handler = serve(factory, {
      principal: () => {
        if (broken) throw new Error('secret of the identity provider')
        return 'someone'
      },
    })
    const client = await openSession(handler)
    broken = true
    const answer = await client.request('ping')
    expect(answer.status).toBe(500)
    expect(JSON.stringify(answer.body)).not.toContain('secret')
    expect((await client.delete()).status).toBe(500)
    broken = false
    expect((await client.request('ping')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
  })

  // TypeScript forbids it, JavaScript writes `?? null`
  test('that answers null means nobody, and opens no door', async () => {
    const backend = gated()
    const principal = ((authInfo) => authInfo?.clientId ?? null) as NonNullable<SessionHandlerOptions['principal']>
    const client = await openSession(serve(scripted(), { backend, principal }), { authInfo: authOf('alice') })
    await expectShutOut(client, undefined)
    const factory = scripted()
    client.on(serve(factory, { backend, principal }))
    await expectShutOut(client, undefined)
    expect(factory.servers).toHaveLength(0)
    expect((await client.request('ping')).status).toBe(200)
    await expectShutOut(client, undefined)
    const nobody = await openSession(serve(scripted(), { backend, principal }))
    expect((await nobody.request('ping')).status).toBe(200)
    await expectShutOut(nobody, authOf('alice'))
  })

  test('an empty principal is somebody: not nobody', async () => {
    const backend = gated()
    const principal = (authInfo: AuthInfo | undefined) => (authInfo ? '' : undefined)
    const client = await openSession(serve(scripted(), { backend, principal }), { authInfo: alice })
    await expectShutOut(client, undefined)
    client.on(serve(scripted(), { backend, principal }))
    await expectShutOut(client, undefined)
    expect((await client.request('ping')).status).toBe(200)
  })
})

test('a request of another principal does not wait for a restore, nor share its outcome', async () => {
  const { backend, client: owner } = await stored({ authInfo: authOf('alice') })
  const built = deferred()
  const factory = scripted({}, () => built.promise)
  owner.on(serve(factory, { backend }))
  const mine = owner.request('tools/list')
  const theirs = owner.request('tools/list', {}, { authInfo: authOf('mallory') })
  expect((await theirs).status).toBe(404)
  built.resolve()
  expect((await mine).status).toBe(200)
})

test('what two principals do at once to a session that is being restored does not mix', async () => {
  const backend = gated()
  const client = await openSession(serve(scripted(), { backend }), { authInfo: alice })
  const factory = scripted()
  client.on(serve(factory, { backend }))
  const gate = backend.calls.hold('sessions.load')
  const foreign = client.request('tools/call', {}, { authInfo: authOf('mallory') })
  await gate.reached
  const own = client.request('tools/list')
  const also = client.request('tools/call', {}, { authInfo: undefined })
  gate.open()
  expect([(await foreign).status, (await own).status, (await also).status]).toEqual([404, 200, 404])
  const server = factory.last as ScriptedServer
  expect(server.methods).not.toContain('tools/call')
  expect(server.received.all.every(({ extra }) => !extra?.authInfo || extra.authInfo.clientId === 'app')).toBe(true)
})

test('a session id of one principal is nobody’s key to another’s: each id has one owner', async () => {
  const handler = serve(scripted())
  const mine = await openSession(handler, { authInfo: alice })
  const theirs = await openSession(handler, { authInfo: authOf('app', 'bob') })
  expect((await theirs.request('ping', {}, { headers: { 'mcp-session-id': mine.sessionId } })).status).toBe(404)
  expect((await mine.request('ping', {}, { headers: { 'mcp-session-id': theirs.sessionId } })).status).toBe(404)
})

describe('verified auth without a subject', () => {
  async function told(auths: (AuthInfo | undefined)[], options: SessionHandlerOptions = {}): Promise<string[]> {
    const errors: Error[] = []
    const handler = serve(scripted(), { onerror: (error) => errors.push(error), ...options })
    for (const authInfo of auths) await (await openSession(handler, { authInfo })).request('ping')
    return errors.map(({ message }) => message)
  }

  test('onerror is told once that the users of a client count as one, and what to set', async () => {
    const empty = { ...authOf('other'), extra: { sub: '' } }
    expect(await told([authOf('app'), authOf('app'), empty])).toEqual([
      expect.stringMatching(/no subject.* set extra\.sub, or set the option `principal`/),
    ])
  })

  test('nothing is told of requests with a subject or without auth, or if the option says whose they are', async () => {
    expect(await told([undefined, alice])).toEqual([])
    expect(await told([authOf('app')], { principal: () => 'me' })).toEqual([])
  })
})
