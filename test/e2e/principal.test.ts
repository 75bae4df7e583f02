/** Sessions belong to whoever opened them: invariant 7 of the contract, from outside. */
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFailed, test } from 'vitest'
import type { WhoAmI } from '../fixtures/content.js'
import { connectClient, type TestClient } from '../harness/client.js'
import { type Sent, urlDoor } from '../harness/door.js'
import { startServer, type TestServer } from '../harness/server.js'
import { type InitializeOptions, openSession, WireClient } from '../harness/wire-client.js'
import { discard, scratch } from '../services/children.js'

/** Bearer tokens as the fixture reads them: client, or client/user; undefined: anonymous. */
const CASES: { owner: string | undefined; stranger: string | undefined; what: string }[] = [
  { owner: 'alice', stranger: 'bob', what: 'another client' },
  { owner: 'app/alice', stranger: 'app/bob', what: 'another user of the same client' },
  { owner: 'alice', stranger: undefined, what: 'someone anonymous' },
  { owner: undefined, stranger: 'alice', what: 'someone authenticated, when it is anonymous' },
]

let server: TestServer

beforeAll(async () => {
  const folder = scratch()
  server = await startServer({
    sdk: 'v2',
    backend: `sqlite:${join(folder, 'sessions.db')}`,
    options: { retryInterval: 50 },
  })
  return async () => {
    await server.kill()
    discard(folder)
  }
})

const as = (token: string | undefined): InitializeOptions =>
  token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }

/** Whoever has that token, with somebody's session id. */
const visitor = (sessionId: string, token: string | undefined) =>
  new WireClient(urlDoor(server.url), sessionId, undefined, as(token))

const CALL = { jsonrpc: '2.0', id: 77, method: 'tools/call', params: { name: 'count', arguments: {} } }

/** Every way into a session. */
const WAYS: Record<string, Sent> = {
  'POST of a request': { body: CALL },
  'POST of a notification': {
    body: { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } },
  },
  'POST of a response': { body: { jsonrpc: '2.0', id: 'x', result: {} } },
  GET: { method: 'GET' },
  DELETE: { method: 'DELETE' },
}

async function expectShutOut(sessionId: string, token: string | undefined): Promise<void> {
  for (const [way, sent] of Object.entries(WAYS)) {
    const { status, text, body, headers } = await visitor(sessionId, token).send(sent)
    expect(status, way).toBe(404)
    expect(body, way).toMatchObject({ jsonrpc: '2.0', error: { code: -32001 } })
    expect(headers, way).not.toHaveProperty('mcp-session-id')
    // Nothing tells a foreign session from one that never was.
    const unknown = await visitor(crypto.randomUUID(), token).send(sent)
    expect({ status, text, headers: Object.keys(headers) }, way).toEqual({
      status: unknown.status,
      text: unknown.text,
      headers: Object.keys(unknown.headers),
    })
  }
}

async function expectUndisturbed(owner: TestClient, mark: string): Promise<void> {
  expect(await owner.call('count')).toBe(mark)
  await owner.call('log', { level: 'error', text: mark })
  await owner.notifications.first(({ params }) => params?.data === mark, 'a message on the standalone stream')
  expect(owner.wire.count('initialize')).toBe(1)
}

describe.each(CASES)('a session of $owner used by $what', ({ owner: token, stranger }) => {
  test('does not exist, before and after a restart; its owner goes on undisturbed', async () => {
    onTestFailed(() => console.error(server.log))
    const owner = await connectClient('v1', server.url, token === undefined ? {} : { token })
    try {
      const sessionId = owner.sessionId() ?? ''
      const streams = () => owner.wire.sent.all.filter(({ method }) => method === 'GET').length
      await expectShutOut(sessionId, stranger)
      await expectUndisturbed(owner, '1')
      expect(streams()).toBe(1)

      const answered = owner.wire.answered.count
      await server.kill()
      await server.start()
      await expectShutOut(sessionId, stranger)
      await owner.wire.streamOpened(answered)
      await expectUndisturbed(owner, '2')
      await expectShutOut(sessionId, stranger)
      await expectUndisturbed(owner, '3')
      expect((JSON.parse(await owner.call('whoami')) as WhoAmI).token).toBe(token)
    } finally {
      await owner.close()
    }
  })
})

test.each(CASES)('a session of $owner that $what finds first after a restart stays its owner’s', async (people) => {
  onTestFailed(() => console.error(server.log))
  // Nobody follows it, so that after the restart nobody is there before the next request.
  const owner = await openSession(urlDoor(server.url), as(people.owner))
  await server.kill()
  await server.start()
  await expectShutOut(owner.sessionId, people.stranger)
  expect(await owner.send({ body: CALL })).toMatchObject({ status: 200, sessionId: owner.sessionId })
  await expectShutOut(owner.sessionId, people.stranger)
  expect(await owner.delete()).toMatchObject({ status: 200 })
  expect(await owner.send({ body: CALL })).toMatchObject({ status: 404 })
})

test('the owner may come back with a new token', async () => {
  const owner = await connectClient('v1', server.url, { token: 'app/alice' })
  try {
    const answer = await visitor(owner.sessionId() ?? '', 'app/alice#renewed').send({ body: CALL })
    expect(answer.status).toBe(200)
    expect(await owner.call('count')).toBe('2')
  } finally {
    await owner.close()
  }
})
