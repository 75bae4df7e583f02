/** A new instance is told what its predecessors were told, before anybody asks it anything, and nobody hears of it. */
import { Server as ServerV1 } from '@modelcontextprotocol/sdk/server/index.js'
import { ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { Server as ServerV2 } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { currentSession, type ServerInstance } from '../../src/index.js'
import { handshake, type ScriptedFactory, scripted } from '../harness/scripted-server.js'
import { serve, stored } from '../harness/serve.js'
import { quiet } from '../harness/time.js'
import { openSession, WireClient } from '../harness/wire-client.js'

describe('the first request never overtakes the replay', () => {
  const lines: [string, (log: string[]) => ServerInstance][] = [
    [
      'v1',
      (log) => {
        const server = new ServerV1({ name: 's', version: '1' }, { capabilities: { tools: {}, logging: {} } })
        server.oninitialized = () => void log.push(`initialized by ${server.getClientVersion()?.name}`)
        server.setRequestHandler(ListToolsRequestSchema, () => {
          log.push(`list for ${server.getClientVersion()?.name}, restored: ${currentSession().restored}`)
          return { tools: [] }
        })
        return server
      },
    ],
    [
      'v2',
      (log) => {
        const server = new ServerV2({ name: 's', version: '1' }, { capabilities: { tools: {}, logging: {} } })
        server.oninitialized = () => void log.push(`initialized by ${server.getClientVersion()?.name}`)
        server.setRequestHandler('tools/list', () => {
          log.push(`list for ${server.getClientVersion()?.name}, restored: ${currentSession().restored}`)
          return { tools: [] }
        })
        return server
      },
    ],
  ]

  test.each(lines)('%s: `oninitialized` has run, and the client is known', async (_, build) => {
    const backend = memory()
    const log: string[] = []
    const client = await openSession(serve(() => build(log), { backend }))
    for (let node = 0; node < 3; node++) {
      log.length = 0
      client.on(serve(() => build(log), { backend }))
      const answers = await Promise.all([client.request('tools/list'), client.request('tools/list')])
      for (const answer of answers) expect(answer.body.result.tools).toEqual([])
      expect(log).toEqual([
        'initialized by wire-client',
        'list for wire-client, restored: true',
        'list for wire-client, restored: true',
      ])
    }
  })

  test.each(['v1', 'v2'])('%s: what `oninitialized` says was said before, and is not said again', async (line) => {
    const backend = memory()
    const build = (): ServerInstance => {
      if (line === 'v1') {
        const server = new ServerV1({ name: 's', version: '1' }, { capabilities: { logging: {} } })
        server.oninitialized = () => void server.sendLoggingMessage({ level: 'error', data: 'welcome' })
        return server
      }
      const server = new ServerV2({ name: 's', version: '1' }, { capabilities: { logging: {} } })
      server.oninitialized = () => void server.sendLoggingMessage({ level: 'error', data: 'welcome' })
      return server
    }
    const handler = serve(build, { backend })
    const client = await openSession(handler)
    const stream = await client.get()
    expect((await stream.next())?.message.params.data).toBe('welcome')
    const cursor = stream.lastEventId
    await stream.leave()
    await handler.close()
    const there = serve(build, { backend })
    await client.on(there).request('ping')
    await there.sessions.get(client.sessionId)
    await quiet()
    const resumed = await client.get(cursor)
    await there.notify.toolsChanged()
    expect((await resumed.next())?.message.method).toBe('notifications/tools/list_changed')
    await resumed.leave()
  })
})

describe('during the replay', () => {
  test('what the server says is not sent again; what it says afterwards is', async () => {
    const backend = memory()
    const script = {
      initialize: (request: Parameters<typeof handshake>[0], server: ScriptedFactory['last']) => {
        void server.say('in initialize')
        return handshake(request)
      },
      'notifications/initialized': (_: unknown, server: ScriptedFactory['last']) => server.say('in initialized'),
      'resources/subscribe': (_: unknown, server: ScriptedFactory['last']) => {
        void server.notify('notifications/resources/updated', { data: 'in subscribe' })
        return {}
      },
    }
    const first = serve(scripted(script), { backend })
    const client = await openSession(first)
    await client.request('resources/subscribe', { uri: 'test://a' })
    const stream = await client.get()
    const said = []
    for (let i = 0; i < 3; i++) said.push((await stream.next())?.message.params.data)
    expect(said).toEqual(['in initialize', 'in initialized', 'in subscribe'])
    const cursor = stream.lastEventId
    await stream.leave()
    await first.close()
    const factory = scripted(script)
    client.on(serve(factory, { backend }))
    const resumed = await client.get(cursor)
    await factory.last.say('new')
    expect((await resumed.next())?.message.params.data).toBe('new')
    await resumed.leave()
  })

  test('a server may ask its client: the request goes out, and the answer comes back', async () => {
    const backend = memory()
    const origin = serve(scripted(), { backend })
    const client = await openSession(origin)
    await origin.close()
    const factory = scripted({
      'notifications/initialized': (_, server) => server.ask(0, 'roots/list'),
    })
    client.on(serve(factory, { backend }))
    const stream = await client.get()
    const asked = await stream.next()
    expect(asked?.message.method).toBe('roots/list')
    expect((await client.respond(asked?.message.id, { roots: [] })).status).toBe(202)
    expect(factory.last.answers).toEqual([{ jsonrpc: '2.0', id: 0, result: { roots: [] } }])
    await stream.leave()
  })

  test('a server that asks in the middle of a replayed request, and answers only then, gets its answer', async () => {
    const { backend, client } = await stored()
    await client.request('resources/subscribe', { uri: 'test://a' })
    const stream = await client.get()
    const factory: ScriptedFactory = scripted({
      'resources/subscribe': async (_, server) => {
        await server.ask(0, 'roots/list')
        await server.answer(0)
        return {}
      },
    })
    const there = serve(factory, { backend })
    const first = new WireClient(there, client.sessionId).request('tools/list')
    const asked = await stream.next()
    expect(asked?.message.method).toBe('roots/list')
    // it may arrive anywhere
    expect((await client.respond(asked?.message.id, { roots: [] })).status).toBe(202)
    expect((await first).status).toBe(200)
    await stream.leave()
  })

  test('the server’s answers go nowhere: they have no stream, and no id that the client uses', async () => {
    const { backend, client } = await stored()
    await client.request('resources/subscribe', { uri: 'test://a' })
    const factory = scripted()
    backend.calls.reset()
    const node = new WireClient(serve(factory, { backend, responseMode: 'sse' }), client.sessionId)
    const { events } = await node.post({ id: 0, method: 'ping' })
    expect(events.map(({ message }) => message)).toEqual([{ jsonrpc: '2.0', id: 0, result: {} }])
    expect(backend.calls.count('events.open')).toBe(1)
  })
})
