/** Signed ids: how they are made, and that what was ours stays ours. That forged ones are refused: test/attacks/ids.test.ts. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { SessionHandlerOptions } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime } from '../harness/time.js'
import { initialize, openSession } from '../harness/wire-client.js'

const [OURS, OLDER] = ['a', 'b'].map((letter) => letter.repeat(32)) as [string, string]

/** Nodes on one store, each with its own way to it. */
function nodes(shared = memory()) {
  return (options: SessionHandlerOptions) => {
    const backend = gated(shared)
    return { backend, handler: serve(scripted(), { backend, ...options }) }
  }
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
