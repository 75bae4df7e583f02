/** A session that there is not for a request, and ids that could harm: 404, and nothing that tells why (invariants 1 and 7). */
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { DOORS, type Sent } from '../harness/door.js'
import type { Answer } from '../harness/reply.js'
import { initializeMessage, type WireClient } from '../harness/wire-client.js'
import { expectRefusal } from './refusal.js'
import { notification, request, type Stage, stage } from './stage.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('a session that there is not for the request: 404, and nothing that tells why', () => {
    const ways: Record<string, Sent> = {
      'POST of a request': { body: request(3) },
      'POST of a notification': { body: notification('notifications/initialized') },
      'POST of a response': { body: { jsonrpc: '2.0', id: 1, result: {} } },
      'POST of a batch': { body: [request(1)] },
      GET: { method: 'GET' },
      'GET with a Last-Event-ID': { method: 'GET', headers: { 'last-event-id': 'x' } },
      DELETE: { method: 'DELETE' },
    }
    const headers = { authorization: 'Bearer app/alice' }
    /** A client, and what is different in what it sends. */
    type Maker = (made: Stage) => Promise<[WireClient, Sent['headers']?]>
    const makers: Record<string, Maker> = {
      unknown: async (made) => [await made.session(), { 'mcp-session-id': crypto.randomUUID() }],
      deleted: async (made) => {
        const client = await made.session()
        expect((await client.delete()).status).toBe(200)
        return [client]
      },
      'deleted by the program': async (made) => {
        const client = await made.session()
        await made.handler.sessions.delete(client.sessionId)
        return [client]
      },
      'of another client': async (made) => [await made.session({ headers }), { authorization: 'Bearer other/alice' }],
      'of another user': async (made) => [await made.session({ headers }), { authorization: 'Bearer app/bob' }],
      'of an authenticated user': async (made) => [await made.session({ headers }), { authorization: undefined }],
      'of someone anonymous': async (made) => [await made.session(), { authorization: 'Bearer app/alice' }],
    }

    test.each(Object.entries(makers))('one that is %s', async (_, make) => {
      const [client, different] = await make(await stage(name))
      let first: Answer | undefined
      for (const [way, sent] of Object.entries(ways)) {
        const answer = await client.send({ ...sent, headers: { ...sent.headers, ...different } })
        expect(answer.body?.error, way).toEqual({ code: -32001, message: 'Session not found' })
        expectRefusal(answer, 404, -32001, way === 'POST of a request' ? 3 : null)
        first ??= answer
        expect(Object.keys(answer.headers).sort(), way).toEqual(Object.keys(first?.headers ?? {}).sort())
        expect(answer.headers, way).not.toHaveProperty('mcp-session-id')
        expect(answer.text).not.toContain(client.sessionId)
      }
    })

    test('one that has expired', async () => {
      let now = Date.now()
      const backend = memory({ now: () => now })
      const before = await stage(name, { backend, idleTtl: 1000 })
      const client = await before.session()
      const after = await stage(name, { backend, idleTtl: 1000 })
      now += 1001
      for (const sent of Object.values(ways)) expect((await client.at(after.door).send(sent)).status).toBe(404)
    })
  })

  test.each([
    ['very long', 'a'.repeat(4096)],
    ['just too long', 'a'.repeat(257)],
    ['an object’s insides', '__proto__'],
    ['a method of objects', 'constructor'],
    ['latin-1', 'caf\u00e9\u00ff'],
    ['with a space', 'a b'],
    ['with a tab', 'a\tb'],
    ['twice', `${crypto.randomUUID()}, ${crypto.randomUUID()}`],
    ['SQL', "x';DROP/**/TABLE/**/sessions;--"],
    ['a path', '../../../../etc/passwd'],
    ['a key pattern', '{x}:*'],
    ['a template', '$' + '{process.exit()}'],
  ])('a session id that is hostile gets 404, and no session: %s', async (_, id) => {
    const backend = memory()
    const asked: string[] = []
    const load = (key: string) => {
      asked.push(key)
      return backend.sessions.load(key)
    }
    const at = await stage(name, { backend: { ...backend, sessions: { ...backend.sessions, load } } })
    const client = await at.session()
    const headers = { 'mcp-session-id': id }
    for (const sent of [{ body: request(1) }, { method: 'GET' }, { method: 'DELETE' }]) {
      const answer = await at.send({ ...sent, headers })
      expectRefusal(answer, 404, -32001, 'body' in sent ? 1 : null)
      expect(answer.headers).not.toHaveProperty('mcp-session-id')
    }
    const served = await at.send({ headers, body: initializeMessage() })
    expect(served.status).toBe(200)
    expect(served.headers['mcp-session-id']).toMatch(/^[\x21-\x7e]{36}$/)
    expect((await client.post(request(2))).status).toBe(200)
    // what cannot be an id does not get to the store at all
    if (id.length > 256 || !/^[\x21-\x7e]+$/.test(id)) expect(asked).not.toContain(id)
    expect(at.errors).toEqual([])
  })

  test.each(['stale', 'unknown', 'foreign'])('initialize with a %s session id gets a new session', async (what) => {
    const at = await stage(name)
    const old = await at.session({ headers: { authorization: 'Bearer app/alice' } })
    if (what === 'stale') await old.delete()
    const id = what === 'unknown' ? crypto.randomUUID() : old.sessionId
    const headers = { 'mcp-session-id': id, ...(what === 'stale' && { authorization: 'Bearer app/alice' }) }
    const answer = await at.send({ headers, body: initializeMessage() })
    expect(answer).toMatchObject({ status: 200, body: { id: 'init', result: { protocolVersion: '2025-11-25' } } })
    expect(answer.headers['mcp-session-id']).toBeTruthy()
    expect(answer.headers['mcp-session-id']).not.toBe(id)
    if (what === 'foreign') expect((await old.post(request(1))).status).toBe(200)
  })

  test('initialize with the id of a session that is stored but not live is refused: already initialized', async () => {
    const backend = memory()
    const before = await stage(name, { backend })
    const client = await before.session()
    await before.handler.close()
    const after = await stage(name, { backend })
    const answer = await client.at(after.door).send({ body: initializeMessage() })
    expectRefusal(answer, 400, -32600, 'init')
    expect(after.factory.servers).toEqual([])
    expect((await client.at(after.door).post(request(1))).status).toBe(200)
  })
})
