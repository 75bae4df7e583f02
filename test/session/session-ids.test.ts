/** Signed ids: what is not ours is refused before the store is asked, and what was ours stays ours. */
import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { SessionHandlerOptions } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { initialize, openSession, WireClient } from '../harness/wire-client.js'

const [OURS, OLDER, FOREIGN] = ['a', 'b', 'c'].map((letter) => letter.repeat(32)) as [string, string, string]

/** Nodes on one store, each with its own way to it. */
function nodes(shared = memory()) {
  return (options: SessionHandlerOptions) => {
    const backend = gated(shared)
    return { backend, handler: serve(scripted(), { backend, ...options }) }
  }
}

/** All ways to name a session; resolves with their statuses. */
async function ways(client: WireClient): Promise<number[]> {
  const answers = [
    await client.request('ping'),
    await client.notify('notifications/roots/list_changed'),
    await client.respond('x', {}),
    await client.notify('notifications/cancelled', { requestId: 1 }),
    await client.send({ method: 'GET' }),
    await client.delete(),
  ]
  return answers.map(({ status }) => status)
}

test('an id is what the generator made, with a signature that any node can check', async () => {
  const node = nodes()
  const { handler } = node({ secret: OURS, sessionIdGenerator: () => 'a.b' })
  const client = await openSession(handler)
  expect(client.sessionId).toMatch(/^a\.b\.[\w-]{24}$/)
  const other = node({ secret: [OURS] })
  expect((await client.at(other.handler).request('ping')).status).toBe(200)
  expect((await client.at(other.handler).delete()).status).toBe(200)
})

describe('is 404 on every way in, and the store is not asked', () => {
  const flip = (text: string) =>
    text.replace(/[a-z]/gi, (c) => (c === c.toLowerCase() ? c.toUpperCase() : c.toLowerCase()))
  const hmac = (secret: string, text: string) => createHmac('sha256', secret).update(text).digest('base64url')
  const forged: Record<string, (id: string) => string> = {
    'a random one': () => crypto.randomUUID(),
    'one without its signature': (id) => id.slice(0, id.lastIndexOf('.')),
    'one with an empty signature': (id) => id.slice(0, id.lastIndexOf('.') + 1),
    'one that lacks its last character': (id) => id.slice(0, -1),
    'one with a character more': (id) => `${id}A`,
    'one in another case': flip,
    'one whose signature is in another case': (id) => {
      const dot = id.lastIndexOf('.') + 1
      return id.slice(0, dot) + flip(id.slice(dot))
    },
    'one with the signature of another': (id) => `${crypto.randomUUID()}${id.slice(id.lastIndexOf('.'))}`,
    'one signed by anybody’s HMAC': (id) => {
      const name = id.slice(0, id.lastIndexOf('.'))
      return `${name}.${hmac(OURS, name).slice(0, 24)}`
    },
    'the signature alone': (id) => id.slice(id.lastIndexOf('.')),
    'one that is too long': (id) => `${'x'.repeat(256)}${id}`,
    'a hostile one': () => '__proto__.constructor',
  }

  test.each(Object.entries(forged))('%s', async (_, forge) => {
    fakeTime()
    const { backend, handler } = nodes()({ secret: OURS })
    const { sessionId } = await openSession(handler)
    backend.calls.reset()
    const client = new WireClient(handler, forge(sessionId))
    expect(await ways(client)).toEqual([404, 404, 404, 404, 404, 404])
    // A stale id is no reason to refuse a new session.
    const { status } = await client.post({ id: 'init', method: 'initialize', params: initializeParams })
    expect(status).toBe(200)
    await quiet()
    expect(backend.calls.count('sessions.load')).toBe(0)
    expect(backend.calls.count('sessions.delete')).toBe(0)
  })

  test('one that was signed with another secret', async () => {
    fakeTime()
    const node = nodes()
    const client = await openSession(node({ secret: FOREIGN }).handler)
    const { backend, handler } = node({ secret: [OURS, OLDER] })
    expect(await ways(client.at(handler))).toEqual([404, 404, 404, 404, 404, 404])
    expect(backend.calls.count('sessions.load')).toBe(0)
  })
})

const initializeParams = {
  protocolVersion: '2025-11-25',
  capabilities: {},
  clientInfo: { name: 'x', version: '1' },
}

test('of several secrets the first signs, and any verifies', async () => {
  fakeTime()
  const node = nodes()
  const before = await openSession(node({ secret: OLDER }).handler)
  const { handler } = node({ secret: [OURS, OLDER] })
  expect((await before.at(handler).request('ping')).status).toBe(200)
  const after = await openSession(handler)
  const last = node({ secret: OURS })
  expect((await after.at(last.handler).request('ping')).status).toBe(200)
  expect((await before.at(last.handler).request('ping')).status).toBe(404)
})

test('a roll-out refuses no session: nodes with a secret accept unsigned ids until they need not', async () => {
  fakeTime()
  const node = nodes()
  const old = node({})
  const client = await openSession(old.handler)
  const next = node({ secret: OURS, acceptUnsigned: true })
  expect((await client.at(next.handler).request('ping')).status).toBe(200)
  // What the new nodes sign is served by the old ones, too.
  const signed = await openSession(next.handler)
  expect((await signed.at(old.handler).request('ping')).status).toBe(200)
  const strict = node({ secret: OURS })
  expect((await signed.at(strict.handler).request('ping')).status).toBe(200)
  expect((await client.at(strict.handler).request('ping')).status).toBe(404)
})

test('ids that come from the operator are not checked', async () => {
  const node = nodes()
  const { sessionId } = await openSession(node({}).handler)
  const { handler } = node({ secret: OURS })
  expect(await handler.sessions.get(sessionId)).toMatchObject({ id: sessionId })
  const told = handler.notify.session(sessionId, {
    method: 'notifications/message',
    params: { level: 'info', data: 1 },
  })
  expect(await told).toBe(true)
  expect(await handler.sessions.delete(sessionId)).toBe(true)
})

test('a generator whose id has no room for the signature is answered 500', async () => {
  const errors: Error[] = []
  const onerror = (error: Error) => void errors.push(error)
  const short = nodes()({ secret: OURS, sessionIdGenerator: () => 'x'.repeat(231) })
  expect((await initialize(short.handler)).sessionId).toHaveLength(256)
  const long = nodes()({ secret: OURS, sessionIdGenerator: () => 'x'.repeat(232), onerror })
  expect((await initialize(long.handler)).status).toBe(500)
  expect(errors).toEqual([new Error('sessionIdGenerator must return up to 231 characters of visible ASCII')])
})

test.each([
  ['too short', 'x'.repeat(31)],
  ['empty', ''],
  ['an empty list', []],
  ['one of the list too short', [OURS, 'x']],
  ['no text', 7 as never],
])('a secret that cannot be right is a TypeError that says how to make one: %s', (_, secret) => {
  expect(() => serve(scripted(), { secret })).toThrow(/secret must have at least 32 .*openssl rand -base64 32/)
  expect(() => serve(scripted(), { secret })).toThrow(TypeError)
})

test('acceptUnsigned that is neither true nor false is a TypeError', () => {
  expect(() => serve(scripted(), { secret: OURS, acceptUnsigned: 'no' as never })).toThrow(TypeError)
})
