/** The transport by itself goes on with a session that it did not make, by whichever way it is told of it. */
import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { DOORS } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { initializeMessage } from '../harness/wire-client.js'
import { connected, expectRefused, made, ping, send, WAYS } from './connected.js'
import { SECRET } from './refusal.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe.each([
    ['the sessionId option', undefined],
    ['hydrate before connect', 'before'],
    ['hydrate after connect', 'after'],
    ['hydrate twice', 'both'],
  ] as const)('a session made elsewhere, by %s', (_, way) => {
    test('tells its server what the one before was told, before any request', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      await client.post({ id: 5, method: 'logging/setLevel', params: { level: 'error' } })
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      expect(at.transport.sessionId).toBe(client.sessionId)
      expect(at.server.methods).toEqual(['initialize', 'notifications/initialized', 'logging/setLevel'])
      const { params } = initializeMessage({ capabilities: { sampling: {} } })
      expect(at.server.all('initialize')).toMatchObject([{ params }])
      const answer = await client.at(at.door).post(ping(9))
      expect(answer).toMatchObject({ status: 200, sessionId: client.sessionId, body: { id: 9, result: {} } })
      // once
      expect(at.server.methods.filter((method) => method === 'initialize')).toHaveLength(1)
    })

    test('validates the id: none 400, another 404, even one that exists', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      const other = await made(name, backend)
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      for (const sent of WAYS) {
        expectRefused(await send(at.door, sent), 400, -32000)
        for (const id of [other.client.sessionId, randomUUID(), '__proto__']) {
          const answer = await send(at.door, { ...sent, headers: { 'mcp-session-id': id } })
          expectRefused(answer, 404, -32001)
          expect(answer.headers).not.toHaveProperty('mcp-session-id')
        }
      }
      expectRefused(await send(at.door, { body: initializeMessage() }), 400, -32600)
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
      expect((await other.client.post(ping())).status).toBe(200)
    })

    test('that is unknown: 404, and onclose, so that nobody keeps the transport', async () => {
      const id = randomUUID()
      const at = await connected(name, { backend: memory(), sessionId: id }, way)
      expectRefused(
        await send(at.door, { headers: { 'mcp-session-id': id }, body: { jsonrpc: '2.0', ...ping(3) } }),
        404,
        -32001,
      )
      expect(at.closed).toHaveBeenCalledTimes(1)
      expect(at.server.received.count).toBe(0)
    })

    test('is 503 while the store fails, and then fine', async () => {
      const backend = gated()
      const { client } = await made(name, backend)
      const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      for (const sent of WAYS) {
        const answer = await client.at(at.door).send(sent)
        expectRefused(answer, 503, -32603)
        expect(answer.headers['retry-after']).toBe('1')
        expect(answer.text).not.toContain(SECRET)
      }
      expect(at.closed).not.toHaveBeenCalled()
      recover()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
      expect(at.server.methods).toEqual(['initialize', 'notifications/initialized', 'ping'])
    })

    test('is 503 while the store fails, and 404 with onclose if it is unknown when the store is back', async () => {
      const backend = gated()
      const id = randomUUID()
      const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
      const at = await connected(name, { backend, sessionId: id }, way)
      const sent = { headers: { 'mcp-session-id': id }, body: { jsonrpc: '2.0', ...ping() } }
      expectRefused(await send(at.door, sent), 503, -32603)
      recover()
      expectRefused(await send(at.door, sent), 404, -32001)
      expect(at.closed).toHaveBeenCalledTimes(1)
    })

    test('belongs to whom it belonged', async () => {
      const backend = memory()
      const headers = { authorization: 'Bearer app/alice' }
      const { client } = await made(name, backend, { headers })
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      for (const authorization of ['Bearer app/bob', 'Bearer other/alice', undefined]) {
        for (const sent of WAYS) {
          const answer = await client.at(at.door).send({ ...sent, headers: { authorization } })
          expectRefused(answer, 404, -32001)
          expect(answer.headers).not.toHaveProperty('mcp-session-id')
        }
      }
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
      expect((await client.at(at.door).delete()).status).toBe(200)
    })

    test('is not closed for its owner by whoever is turned away first', async () => {
      const backend = gated()
      const headers = { authorization: 'Bearer app/alice' }
      const { client } = await made(name, backend, { headers })
      const recover = backend.calls.fail('sessions', new Error(`${SECRET} refused the connection`))
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      recover()
      expectRefused(
        await client.at(at.door).post(ping(), { headers: { authorization: 'Bearer app/bob' } }),
        404,
        -32001,
      )
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at.door).post(ping())).status).toBe(200)
    })

    test('that is anonymous is not served to anybody who is authenticated', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      const at = await connected(name, { backend, sessionId: client.sessionId }, way)
      expectRefused(
        await client.at(at.door).post(ping(), { headers: { authorization: 'Bearer app/alice' } }),
        404,
        -32001,
      )
      expect((await client.at(at.door).post(ping())).status).toBe(200)
    })
  })
})
