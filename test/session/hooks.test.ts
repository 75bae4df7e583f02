/** What the program around a node is told of its sessions, and what it may forbid. */
import { describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { Session, SessionHandler } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve, stored } from '../harness/serve.js'
import { deferred, quiet } from '../harness/time.js'
import { CLIENT_INFO, initialize, openSession, WireClient } from '../harness/wire-client.js'
import { until } from '../harness/within.js'

describe('onSessionInitialized', () => {
  test('is run once, with what the client said of itself, when the record is stored and before the id is given out', async () => {
    const backend = gated()
    const hooked = deferred()
    const seen: unknown[] = []
    const ids: string[] = []
    const handler = serve(scripted(), {
      backend,
      onSessionInitialized: async (session, { authInfo }) => {
        const stored = await backend.sessions.load(session.id)
        const { clientInfo, clientCapabilities, protocolVersion, restored } = session
        seen.push({
          clientInfo,
          clientCapabilities,
          protocolVersion,
          restored,
          isStored: stored?.record.id === session.id,
          authInfo,
        })
        ids.push(session.id)
        await session.state.set('from the hook', 1)
        await hooked.promise
      },
    })
    let answered = false
    const capabilities = { roots: { listChanged: true } }
    const answer = initialize(handler, { capabilities }).then((value) => {
      answered = true
      return value
    })
    await quiet()
    expect(seen).toEqual([
      {
        clientInfo: CLIENT_INFO,
        clientCapabilities: capabilities,
        protocolVersion: '2025-11-25',
        restored: false,
        isStored: true,
        authInfo: undefined,
      },
    ])
    expect(answered).toBe(false)
    hooked.resolve()
    const client = new WireClient(handler, (await answer).sessionId ?? '')
    await client.request('ping')
    expect(ids).toEqual([client.sessionId])
  })
})

describe('authorizeRestore', () => {
  test('that says false: 404 on POST, GET and DELETE, and the session goes on elsewhere', async () => {
    const backend = memory()
    const here = serve(scripted(), { backend })
    const client = await openSession(here)
    const factory = scripted()
    const asked: string[] = []
    const there = serve(factory, {
      backend,
      authorizeRestore: (session, { request }) => {
        asked.push(`${session.id === client.sessionId} ${session.clientInfo?.name} ${request.method}`)
        return false
      },
    })
    client.on(there)
    const refused = await client.post({ id: 'mine', method: 'tools/list' })
    expect(refused.status).toBe(404)
    expect(refused.body).toEqual({ jsonrpc: '2.0', id: 'mine', error: { code: -32001, message: 'Session not found' } })
    expect((await client.send({ method: 'GET' })).status).toBe(404)
    expect((await client.delete()).status).toBe(404)
    expect(asked).toEqual(['true wire-client POST', 'true wire-client GET', 'true wire-client DELETE'])
    expect(factory.servers).toHaveLength(0)
    expect((await client.on(here).request('ping')).status).toBe(200)
  })

  test('is not asked for what is live here', async () => {
    const authorizeRestore = vi.fn(() => false)
    const client = await openSession(serve(scripted(), { authorizeRestore }))
    expect((await client.request('ping')).status).toBe(200)
    expect((await client.delete()).status).toBe(200)
    expect(authorizeRestore).not.toHaveBeenCalled()
  })

  test.each(['throws', 'rejects'])('that %s: 500, and nothing half-made', async (how) => {
    const { backend, client } = await stored()
    let broken = true
    const factory = scripted()
    client.on(
      serve(factory, {
        backend,
        authorizeRestore: () => {
          if (!broken) return true
          const error = new Error('secret')
          if (how === 'throws') throw error
          return Promise.reject(error)
        },
      }),
    )
    for (const answer of [await client.request('ping'), await client.send({ method: 'GET' }), await client.delete()]) {
      expect(answer.status).toBe(500)
      expect(JSON.stringify(answer.body)).not.toContain('secret')
    }
    expect(factory.servers).toHaveLength(0)
    broken = false
    expect((await client.request('ping')).status).toBe(200)
  })
})

describe('onSessionRestored', () => {
  test('is run once for each restore, after the replay and before the first request, and nothing again for the next ones', async () => {
    const { backend, client } = await stored()
    const factory = scripted()
    const seen: unknown[] = []
    const authorizeRestore = vi.fn(() => true)
    client.on(
      serve(factory, {
        backend,
        authorizeRestore,
        onSessionRestored: (session: Session) => void seen.push([session.id, session.restored, factory.last.methods]),
      }),
    )
    for (let i = 0; i < 5; i++) expect((await client.request('ping')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
    expect(authorizeRestore).toHaveBeenCalledOnce()
    expect(seen).toEqual([[client.sessionId, true, ['initialize', 'notifications/initialized']]])
  })
})

describe('onSessionClosed', () => {
  async function watched(nodes: number) {
    const shared = memory()
    const seen: unknown[][] = []
    const made = Array.from({ length: nodes }, (_, index) =>
      serve(scripted(), {
        backend: shared,
        onSessionClosed: (session, reason) => void seen.push([index, session.id, session.clientInfo?.name, reason]),
      }),
    )
    const client = await openSession(made[0] as SessionHandler)
    return { shared, seen, nodes: made, client, id: client.sessionId }
  }

  test('is told `deleted` once, on the node where the client did it', async () => {
    const { seen, nodes, client, id } = await watched(3)
    await client.on(nodes[1] as SessionHandler).request('ping')
    await client.on(nodes[2] as SessionHandler).delete()
    await quiet()
    expect(seen).toEqual([[2, id, 'wire-client', 'deleted']])
  })

  test('is told `deleted` when the program did it', async () => {
    const { seen, nodes, client, id } = await watched(1)
    expect(await nodes[0]?.sessions.delete(id)).toBe(true)
    expect(await nodes[0]?.sessions.delete(id)).toBe(false)
    expect(seen).toEqual([[0, id, 'wire-client', 'deleted']])
    expect((await client.request('ping')).status).toBe(404)
  })

  test('is told once of two DELETEs at once', async () => {
    const { seen, client } = await watched(1)
    const statuses = (await Promise.all([client.delete(), client.delete()])).map(({ status }) => status)
    expect(statuses).toContain(200)
    expect(seen).toHaveLength(1)
  })

  test('is not told of the end of an instance: the handler’s close, an eviction', async () => {
    const { seen, nodes, client } = await watched(1)
    await client.request('ping')
    await nodes[0]?.close()
    expect(seen).toEqual([])
    const onSessionClosed = vi.fn()
    const factory = scripted()
    await openSession(serve(factory, { liveIdle: 0, onSessionClosed }))
    await until(() => factory.last.closed)
    expect(onSessionClosed).not.toHaveBeenCalled()
  })

  test('that throws fails the DELETE, and the session is gone all the same', async () => {
    const factory = scripted()
    const handler = serve(factory, {
      onSessionClosed: () => {
        throw new Error('no')
      },
    })
    const client = await openSession(handler)
    const stream = await client.get()
    expect((await client.delete()).status).toBe(500)
    expect((await client.request('ping')).status).toBe(404)
    expect(factory.last.closed).toBe(true)
    expect(await stream.rest()).toEqual([])
  })
})
