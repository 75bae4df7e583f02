/** Sessions belong to whoever opened them: invariant 7 of the contract, from outside. */
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFailed, test } from 'vitest'
import type { WhoAmI } from '../fixtures/content.js'
import { connectClient, type TestClient } from '../harness/client.js'
import { startServer, type TestServer } from '../harness/server.js'
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

interface Answer {
  status: number
  body: string
  sessionId: string | null
}

async function send(sessionId: string | undefined, token: string | undefined, init: RequestInit): Promise<Answer> {
  const response = await fetch(server.url, {
    ...init,
    headers: {
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-protocol-version': '2025-11-25',
      ...(sessionId === undefined ? {} : { 'mcp-session-id': sessionId }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    signal: AbortSignal.timeout(5_000),
  })
  return { status: response.status, body: await response.text(), sessionId: response.headers.get('mcp-session-id') }
}

const post = (message: object): RequestInit => ({
  method: 'POST',
  body: JSON.stringify({ jsonrpc: '2.0', ...message }),
})

/** Every way into a session. */
const WAYS: Record<string, RequestInit> = {
  'POST of a request': post({ id: 77, method: 'tools/call', params: { name: 'count', arguments: {} } }),
  'POST of a notification': post({ method: 'notifications/cancelled', params: { requestId: 1 } }),
  'POST of a response': post({ id: 'x', result: {} }),
  GET: { method: 'GET' },
  DELETE: { method: 'DELETE' },
}

async function expectShutOut(sessionId: string, token: string | undefined): Promise<void> {
  for (const [way, init] of Object.entries(WAYS)) {
    const answer = await send(sessionId, token, init)
    expect(answer.status, way).toBe(404)
    expect(JSON.parse(answer.body), way).toMatchObject({ jsonrpc: '2.0', error: { code: -32001 } })
    // Nothing tells a foreign session from one that never was.
    const unknown = await send(crypto.randomUUID(), token, init)
    expect({ ...answer, sessionId: answer.sessionId === sessionId }, way).toEqual({
      ...unknown,
      sessionId: unknown.sessionId !== null,
    })
  }
}

/** A session that nobody follows, so that after a restart nobody is there before the next request. */
async function openUnattended(token: string | undefined): Promise<string> {
  const clientInfo = { name: 'unattended', version: '1.0.0' }
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
  const { sessionId } = await send(undefined, token, post({ id: 0, method: 'initialize', params }))
  expect(sessionId).not.toBeNull()
  expect(await send(sessionId ?? '', token, post({ method: 'notifications/initialized' }))).toMatchObject({
    status: 202,
  })
  return sessionId ?? ''
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
  const sessionId = await openUnattended(people.owner)
  await server.kill()
  await server.start()
  await expectShutOut(sessionId, people.stranger)
  const call = WAYS['POST of a request'] ?? {}
  expect(await send(sessionId, people.owner, call)).toMatchObject({ status: 200, sessionId })
  await expectShutOut(sessionId, people.stranger)
  expect(await send(sessionId, people.owner, { method: 'DELETE' })).toMatchObject({ status: 200 })
  expect(await send(sessionId, people.owner, call)).toMatchObject({ status: 404 })
})

test('the owner may come back with a new token', async () => {
  const owner = await connectClient('v1', server.url, { token: 'app/alice' })
  try {
    const answer = await send(owner.sessionId() ?? '', 'app/alice#renewed', WAYS['POST of a request'] ?? {})
    expect(answer.status).toBe(200)
    expect(await owner.call('count')).toBe('2')
  } finally {
    await owner.close()
  }
})
