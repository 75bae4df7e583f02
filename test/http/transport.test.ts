/** The transport by itself: where the SDKs' own stood, and what it adds, going on with a session that it did not make. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { WebStandardStreamableHTTPServerTransport as WebTransportV1 } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import {
  McpServer as McpServerV2,
  WebStandardStreamableHTTPServerTransport as WebTransportV2,
} from '@modelcontextprotocol/server'
import express from 'express'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { sqlite } from '../../src/backend/sqlite.js'
import { type Backend, currentSession, SessionTransport, type SessionTransportOptions } from '../../src/index.js'
import { Client, initialize, Puppet } from './puppet.js'
import { type Answer, DOORS, type Door, type DoorName, door, type Stream } from './raw.js'

type Sdk = 'v1' | 'v2'
const SDKS: readonly Sdk[] = ['v1', 'v2']

const ping = (id: string | number = 1) => ({ id, method: 'ping' })
const call = (name: string, id: string | number = 1) => ({ id, method: 'tools/call', params: { name, arguments: {} } })

/** A server with one tool that tells what it knows of its client, and one that changes the list of tools. */
function buildServer(sdk: Sdk): McpServerV1 | McpServerV2 {
  const info = { name: 'served', version: '1' }
  const capabilities = { tools: { listChanged: true }, logging: {} }
  if (sdk === 'v1') {
    const server = new McpServerV1(info, { capabilities })
    server.registerTool('who', {}, () => told(server.server))
    server.registerTool('grow', {}, () => {
      server.registerTool(`tool-${randomUUID()}`, {}, () => ({ content: [] }))
      return { content: [] }
    })
    return server
  }
  const server = new McpServerV2(info, { capabilities })
  server.registerTool('who', {}, () => told(server.server))
  server.registerTool('grow', {}, () => {
    server.registerTool(`tool-${randomUUID()}`, {}, () => ({ content: [] }))
    return { content: [] }
  })
  return server
}

function told(server: { getClientVersion(): object | undefined; getClientCapabilities(): object | undefined }) {
  const text = JSON.stringify([server.getClientVersion(), server.getClientCapabilities()])
  return { content: [{ type: 'text' as const, text }] }
}

const KNOWN = JSON.stringify([{ name: 'raw', version: '1' }, { sampling: {} }])
const opening = initialize('2025-11-25', 'init', { capabilities: { sampling: {} } })

/** What was answered, as JSON or as the last event of a stream. */
// biome-ignore lint/suspicious/noExplicitAny: whatever was answered, to be compared
async function answerOf(stream: Stream): Promise<any> {
  if (stream.headers['content-type'] !== 'text/event-stream') return JSON.parse((await stream.text()) || 'null')
  return (await stream.events()).at(-1)?.message
}

interface AnyTransport {
  sessionId?: string | undefined
  onclose?: (() => void) | undefined
}

interface ExampleOptions {
  sdk: Sdk
  form: DoorName
  make(options: Pick<SessionTransportOptions, 'sessionId' | 'onsessioninitialized' | 'onsessionclosed'>): AnyTransport
  /** The handful of lines that the documentation adds: an id that is not in the map may be one from before. */
  restartProof?: boolean
}

/** The SDK's example with its map of transports, on Express or on a web-standard router. */
class Example {
  readonly transports = new Map<string, AnyTransport>()
  readonly told: string[] = []
  door!: Door

  static async open(options: ExampleOptions): Promise<Example> {
    const example = new Example()
    const served = options.form === 'node' ? example.#express(options) : undefined
    example.door = await door(options.form, {
      node: (req, res) => served?.(req, res),
      fetch: (request, fetchOptions) => example.#route(options, request, fetchOptions),
    })
    return example
  }

  client(id: string, headers = {}): Client {
    return new Client(this, id, { 'mcp-protocol-version': '2025-11-25', ...headers })
  }

  async initialize(headers = {}): Promise<Client> {
    const stream = await this.door.open({ headers, body: opening })
    expect(await answerOf(stream)).toMatchObject({ id: 'init', result: { serverInfo: { name: 'served' } } })
    const client = this.client(stream.sessionId as string, headers)
    expect((await client.post({ method: 'notifications/initialized' })).status).toBe(202)
    return client
  }

  async #transport(
    options: ExampleOptions,
    id: string | undefined,
    isInitialize: boolean,
  ): Promise<AnyTransport | number> {
    const known = id === undefined ? undefined : this.transports.get(id)
    if (known) return known
    if (id !== undefined && !options.restartProof) return 404
    if (id === undefined && !isInitialize) return 400
    const transport = options.make({
      ...(id !== undefined && { sessionId: id }),
      onsessioninitialized: (given) => {
        this.told.push(`initialized ${given}`)
        this.transports.set(given, transport)
      },
      onsessionclosed: (given) => {
        this.told.push(`closed ${given}`)
      },
    })
    transport.onclose = () => {
      this.told.push('onclose')
      this.transports.delete(transport.sessionId ?? '')
    }
    if (id !== undefined) this.transports.set(id, transport)
    // biome-ignore lint/suspicious/noExplicitAny: a transport of either line, and ours
    await buildServer(options.sdk).connect(transport as any)
    return transport
  }

  #express(options: ExampleOptions) {
    const app = express().use(express.json())
    app.all('/mcp', async (req, res) => {
      const id = req.headers['mcp-session-id'] as string | undefined
      const transport = await this.#transport(options, id, req.body?.method === 'initialize')
      if (typeof transport === 'number') return void res.status(transport).json({})
      await (transport as SessionTransport).handleRequest(req, res, req.body)
    })
    return app
  }

  async #route(options: ExampleOptions, request: Request, fetchOptions: object): Promise<Response> {
    const id = request.headers.get('mcp-session-id') ?? undefined
    const parsedBody = request.method === 'POST' ? ((await request.json()) as { method?: string }) : undefined
    const transport = await this.#transport(options, id, parsedBody?.method === 'initialize')
    if (typeof transport === 'number') return Response.json({}, { status: transport })
    return (transport as SessionTransport).handleRequest(request, { ...fetchOptions, parsedBody })
  }
}

const sdkTransports = {
  'v1 node': StreamableHTTPServerTransport,
  'v1 fetch': WebTransportV1,
  'v2 node': NodeStreamableHTTPServerTransport,
  'v2 fetch': WebTransportV2,
}

const everywhere = SDKS.flatMap((sdk) => DOORS.map((form) => [sdk, form] as const))

describe.each(everywhere)('the SDK’s example with a server of line %s, %s', (sdk, form) => {
  const kinds: Record<string, ExampleOptions['make']> = {
    // the test says of ours what is true of the SDK's
    'the SDK’s transport': (options) =>
      // biome-ignore lint/suspicious/noExplicitAny: four classes with one shape
      new sdkTransports[`${sdk} ${form}`]({ sessionIdGenerator: randomUUID, ...options } as any) as AnyTransport,
    'the session transport': (options) => new SessionTransport(options),
  }

  test.each(Object.keys(kinds))('%s: initialize, tools, GET, DELETE', async (kind) => {
    const example = await Example.open({ sdk, form, make: kinds[kind] as ExampleOptions['make'] })
    const client = await example.initialize()
    const { id } = client
    expect([...example.transports.keys()]).toEqual([id])
    expect(example.transports.get(id)?.sessionId).toBe(id)
    expect(example.told).toEqual([`initialized ${id}`])

    const listed = await client.open({ id: 1, method: 'tools/list' })
    expect(listed).toMatchObject({ status: 200, sessionId: id })
    const { result } = await answerOf(listed)
    expect(result.tools.map((tool: { name: string }) => tool.name)).toEqual(['who', 'grow'])
    expect((await answerOf(await client.open(call('who', 2)))).result.content[0].text).toBe(KNOWN)

    const get = await client.get()
    expect(get).toMatchObject({ status: 200, sessionId: id })
    await answerOf(await client.open(call('grow', 3)))
    expect((await get.event())?.message).toEqual({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })

    const again = await client.send({ body: opening })
    expect(again).toMatchObject({ status: 400, json: { error: { code: -32600 } } })

    expect((await client.delete()).status).toBe(200)
    expect(await get.events()).toEqual([])
    expect((await client.post(ping())).status).toBe(404)
    expect([...example.transports.keys()]).toEqual([])
    expect(example.told).toEqual([`initialized ${id}`, `closed ${id}`, 'onclose'])
  })

  test('a handful of lines make it restart-proof: POST, GET and DELETE on sessions of a former process', async () => {
    const backend = memory()
    const make: ExampleOptions['make'] = (options) => new SessionTransport({ backend, ...options })
    const before = await Example.open({ sdk, form, make, restartProof: true })
    const one = await before.initialize()
    const two = await before.initialize()
    const three = await before.initialize()
    const after = await Example.open({ sdk, form, make, restartProof: true })

    const posted = await one.at(after).open(call('who', 7))
    expect(posted).toMatchObject({ status: 200, sessionId: one.id })
    expect((await answerOf(posted)).result.content[0].text).toBe(KNOWN)

    const get = await two.at(after).get()
    expect(get).toMatchObject({ status: 200, sessionId: two.id })
    await answerOf(await two.at(after).open(call('grow')))
    expect((await get.event())?.message.method).toBe('notifications/tools/list_changed')

    expect((await three.at(after).delete()).status).toBe(200)
    expect([...after.transports.keys()]).toEqual([one.id, two.id])
    // the former process, were it still there, knows as well
    expect((await three.post(ping())).status).toBe(404)
    await vi.waitFor(() => expect(before.transports.has(three.id)).toBe(false))

    expect((await after.client(randomUUID()).post(ping())).status).toBe(404)
    expect([...after.transports.keys()]).toEqual([one.id, two.id])
    expect(after.told.slice(0, 2).sort()).toEqual([`closed ${three.id}`, 'onclose'])
  })
})

/** A transport with a puppet for its server, and a door to it. */
async function connected(name: DoorName, options: SessionTransportOptions = {}, hydrate?: 'before' | 'after' | 'both') {
  const { sessionId, ...rest } = options
  const transport = new SessionTransport(hydrate ? rest : options)
  onTestFinished(() => transport.close())
  const server = new Puppet()
  const closed = vi.fn()
  if (hydrate === 'before' || hydrate === 'both') await transport.hydrate(sessionId as string)
  await server.connect(transport)
  const own = transport.onclose
  transport.onclose = () => {
    own?.()
    closed()
  }
  if (hydrate === 'after' || hydrate === 'both') await transport.hydrate(sessionId as string)
  const through = await door(name, {
    node: (req, res) => transport.handleRequest(req, res),
    fetch: (request, fetchOptions) => transport.handleRequest(request, fetchOptions),
  })
  return { transport, server, closed, door: through }
}

async function made(name: DoorName, backend: Backend, headers = {}) {
  const at = await connected(name, { backend })
  const answer = await at.door.send({ headers, body: opening })
  const client = new Client(at, answer.headers['mcp-session-id'] as string, {
    'mcp-protocol-version': '2025-11-25',
    ...headers,
  })
  expect((await client.post({ method: 'notifications/initialized' })).status).toBe(202)
  return { ...at, client }
}

function methods(server: Puppet): unknown[] {
  return server.received.all.map(({ message }) => 'method' in message && message.method)
}

function expectRefused(answer: Answer, status: number, code: number): void {
  expect(answer).toMatchObject({ status, json: { jsonrpc: '2.0', error: { code } } })
}

describe.each(DOORS)('%s', (name) => {
  describe.each([
    ['the sessionId option', undefined],
    ['hydrate before connect', 'before'],
    ['hydrate after connect', 'after'],
    ['hydrate twice', 'both'],
  ] as const)('a session made elsewhere, by %s', (_, way) => {
    test('its server was told what its predecessor was told, before any request', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      await client.post({ id: 5, method: 'logging/setLevel', params: { level: 'error' } })
      const at = await connected(name, { backend, sessionId: client.id }, way)
      expect(at.transport.sessionId).toBe(client.id)
      expect(methods(at.server)).toEqual(['initialize', 'notifications/initialized', 'logging/setLevel'])
      expect(at.server.received.all[0]?.message).toMatchObject({ params: opening.params })
      const answer = await client.at(at).post(ping(9))
      expect(answer).toMatchObject({
        status: 200,
        headers: { 'mcp-session-id': client.id },
        json: { id: 9, result: {} },
      })
      // once
      expect(methods(at.server).filter((method) => method === 'initialize')).toHaveLength(1)
    })

    test('it validates the id: none 400, another 404, even one that exists', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      const other = await made(name, backend)
      const at = await connected(name, { backend, sessionId: client.id }, way)
      for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
        expectRefused(await at.door.send(sent), 400, -32000)
        for (const id of [other.client.id, randomUUID(), '__proto__']) {
          const answer = await at.door.send({ ...sent, headers: { 'mcp-session-id': id } })
          expectRefused(answer, 404, -32001)
          expect(answer.headers).not.toHaveProperty('mcp-session-id')
        }
      }
      expectRefused(await at.door.send({ body: opening }), 400, -32600)
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at).post(ping())).status).toBe(200)
      expect((await other.client.post(ping())).status).toBe(200)
    })

    test('unknown: 404, and onclose, so that nobody keeps the transport', async () => {
      const id = randomUUID()
      const at = await connected(name, { backend: memory(), sessionId: id }, way)
      expectRefused(
        await at.door.send({ headers: { 'mcp-session-id': id }, body: { jsonrpc: '2.0', ...ping(3) } }),
        404,
        -32001,
      )
      expect(at.closed).toHaveBeenCalledTimes(1)
      expect(at.server.received.count).toBe(0)
    })

    test('while the store fails: 503, then fine', async () => {
      const { backend, state } = failing()
      const { client } = await made(name, backend)
      state.down = true
      const at = await connected(name, { backend, sessionId: client.id }, way)
      for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
        const answer = await client.at(at).send(sent)
        expectRefused(answer, 503, -32603)
        expect(answer.headers['retry-after']).toBe('1')
        expect(answer.text).not.toContain('hunter2')
      }
      expect(at.closed).not.toHaveBeenCalled()
      state.down = false
      expect((await client.at(at).post(ping())).status).toBe(200)
      expect(methods(at.server)).toEqual(['initialize', 'notifications/initialized', 'ping'])
    })

    test('while the store fails, and unknown when it is back: 404, and onclose', async () => {
      const { backend, state } = failing()
      const id = randomUUID()
      state.down = true
      const at = await connected(name, { backend, sessionId: id }, way)
      const sent = { headers: { 'mcp-session-id': id }, body: { jsonrpc: '2.0', ...ping() } }
      expectRefused(await at.door.send(sent), 503, -32603)
      state.down = false
      expectRefused(await at.door.send(sent), 404, -32001)
      expect(at.closed).toHaveBeenCalledTimes(1)
    })

    test('it belongs to whom it belonged', async () => {
      const backend = memory()
      const alice = { authorization: 'Bearer app/alice' }
      const { client } = await made(name, backend, alice)
      const at = await connected(name, { backend, sessionId: client.id }, way)
      for (const authorization of ['Bearer app/bob', 'Bearer other/alice', undefined]) {
        for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
          const answer = await client.at(at).send({ ...sent, headers: { authorization } })
          expectRefused(answer, 404, -32001)
          expect(answer.headers).not.toHaveProperty('mcp-session-id')
        }
      }
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at).post(ping())).status).toBe(200)
      expect((await client.at(at).delete()).status).toBe(200)
    })

    test('and whoever is turned away first does not close it for its owner', async () => {
      const { backend, state } = failing()
      const alice = { authorization: 'Bearer app/alice' }
      const { client } = await made(name, backend, alice)
      state.down = true
      const at = await connected(name, { backend, sessionId: client.id }, way)
      state.down = false
      expectRefused(await client.at(at).post(ping(), { authorization: 'Bearer app/bob' }), 404, -32001)
      expect(at.closed).not.toHaveBeenCalled()
      expect((await client.at(at).post(ping())).status).toBe(200)
    })

    test('an anonymous one is nobody’s who is authenticated', async () => {
      const backend = memory()
      const { client } = await made(name, backend)
      const at = await connected(name, { backend, sessionId: client.id }, way)
      expectRefused(await client.at(at).post(ping(), { authorization: 'Bearer app/alice' }), 404, -32001)
      expect((await client.at(at).post(ping())).status).toBe(200)
    })
  })

  test('many requests at once to one that is not restored yet: one restore, all answered', async () => {
    const { backend, state } = failing()
    const { client } = await made(name, backend)
    state.down = true
    const at = await connected(name, { backend, sessionId: client.id })
    state.down = false
    const answers = await Promise.all(Array.from({ length: 8 }, (_, id) => client.at(at).post(ping(id))))
    expect(answers.map(({ status, json }) => [status, json.id])).toEqual(answers.map((_, id) => [200, id]))
    expect(methods(at.server).filter((method) => method === 'initialize')).toHaveLength(1)
  })

  test('before initialize there is no session: any id is 400, and sessionId is undefined', async () => {
    const at = await connected(name)
    expect(at.transport.sessionId).toBeUndefined()
    for (const headers of [{}, { 'mcp-session-id': randomUUID() }]) {
      for (const sent of [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]) {
        expectRefused(await at.door.send({ ...sent, headers }), 400, -32000)
      }
    }
    expect((await at.door.send({ body: opening })).status).toBe(200)
  })

  test('initialize with a stale session id begins the transport’s session', async () => {
    const at = await connected(name)
    const answer = await at.door.send({ headers: { 'mcp-session-id': randomUUID() }, body: opening })
    expect(answer.status).toBe(200)
    expect(answer.headers['mcp-session-id']).toBe(at.transport.sessionId)
  })

  test('an initialize that met a store which was away can be sent again', async () => {
    const { backend, state } = failing()
    const at = await connected(name, { backend })
    const sent = { headers: { 'mcp-session-id': randomUUID() }, body: opening }
    state.down = true
    expectRefused(await at.door.send(sent), 503, -32603)
    expect(at.closed).not.toHaveBeenCalled()
    state.down = false
    expect((await at.door.send(sent)).status).toBe(200)
  })

  test('two initialize at once: one session, the other is told that there is one', async () => {
    const at = await connected(name)
    const answers = await Promise.all([at.door.send({ body: opening }), at.door.send({ body: opening })])
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400])
    expectRefused(answers.find(({ status }) => status !== 200) as Answer, 400, -32600)
  })

  test('sessionIdGenerator makes the id; onsessioninitialized is told it before the client', async () => {
    let told: string | undefined
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const at = await connected(name, {
      sessionIdGenerator: () => 'my-id',
      onsessioninitialized: async (id) => {
        told = id
        await held
      },
    })
    let answered = false
    const answer = at.door.send({ body: opening }).finally(() => {
      answered = true
    })
    await vi.waitFor(() => expect(told).toBe('my-id'))
    expect(answered).toBe(false)
    expect(at.transport.sessionId).toBe('my-id')
    release()
    expect((await answer).headers['mcp-session-id']).toBe('my-id')
  })

  test('an onsessioninitialized that throws: 500, no id, no record', async () => {
    const backend = memory()
    const at = await connected(name, {
      backend,
      sessionIdGenerator: () => 'half-made',
      onsessioninitialized: () => {
        throw new Error('hunter2')
      },
    })
    const answer = await at.door.send({ body: opening })
    expectRefused(answer, 500, -32603)
    expect(answer.headers).not.toHaveProperty('mcp-session-id')
    expect(answer.text).not.toContain('hunter2')
    await vi.waitFor(async () => expect(await backend.sessions.load('half-made')).toBeUndefined())
    expect(at.closed).toHaveBeenCalledTimes(1)
  })

  test('DELETE: onsessionclosed, then onclose, and the same transport is 404 from then on', async () => {
    const told: string[] = []
    const at = await connected(name, {
      onsessionclosed: async (id) => {
        told.push(id)
      },
    })
    const id = (await at.door.send({ body: opening })).headers['mcp-session-id'] as string
    const client = new Client(at, id, {})
    const get = await client.get()
    expect(await client.delete()).toMatchObject({ status: 200, headers: { 'mcp-session-id': id } })
    expect(told).toEqual([id])
    expect(at.closed).toHaveBeenCalledTimes(1)
    expect(await get.events()).toEqual([])
    expect((await client.post(ping())).status).toBe(404)
    expect(at.closed).toHaveBeenCalledTimes(1)
  })

  test('DELETE through one transport ends the other one of the same session', async () => {
    const backend = memory()
    const first = await made(name, backend)
    const told: string[] = []
    const second = await connected(name, {
      backend,
      sessionId: first.client.id,
      onsessionclosed: (id) => void told.push(id),
    })
    expect((await first.client.at(second).delete()).status).toBe(200)
    await vi.waitFor(() => expect(first.closed).toHaveBeenCalledTimes(1))
    expect((await first.client.post(ping())).status).toBe(404)
    expect(told).toEqual([first.client.id])
  })

  test('close ends the transport, not the session', async () => {
    const backend = memory()
    const { transport, client, closed, server } = await made(name, backend)
    const get = await client.get()
    await transport.close()
    await transport.close()
    expect(closed).toHaveBeenCalledTimes(1)
    expect(await get.events()).toEqual([])
    await expect(server.say('notifications/message', {})).rejects.toThrow()
    const at = await connected(name, { backend, sessionId: client.id })
    expect((await client.at(at).post(ping())).status).toBe(200)
  })

  test('a stream begun on one transport is resumed on the next, from the same backend', async () => {
    const backend = memory()
    const { client, server } = await made(name, backend)
    const first = await client.get()
    await server.say('notifications/message', { data: 1 })
    const { id } = (await first.event()) ?? {}
    first.abort()
    const at = await connected(name, { backend, sessionId: client.id })
    await at.server.say('notifications/message', { data: 2 })
    const resumed = await client.at(at).get(id)
    expect((await resumed.event())?.message.params.data).toBe(2)
    await at.server.say('notifications/message', { data: 3 })
    expect((await resumed.event())?.message.params.data).toBe(3)
  })

  test('what the server asks is answered to the server', async () => {
    const { client, server } = await made(name, memory())
    const get = await client.get()
    await server.ask(0, 'roots/list')
    const asked = (await get.event())?.message
    expect((await client.post({ id: asked.id, result: { roots: [] } })).status).toBe(202)
    await server.received.first(({ message }) => 'result' in message && message.id === 0, 'the answer')
  })

  test('handlers have their session', async () => {
    const seen: unknown[] = []
    const transport = new SessionTransport()
    onTestFinished(() => transport.close())
    const server = new McpServerV2({ name: 's', version: '1' })
    server.registerTool('look', {}, (ctx) => {
      seen.push(currentSession().id, currentSession().restored, ctx.sessionId)
      return { content: [] }
    })
    await server.connect(transport)
    const through = await door(name, {
      node: (req, res) => transport.handleRequest(req, res),
      fetch: (request, options) => transport.handleRequest(request, options),
    })
    const id = (await through.send({ body: opening })).headers['mcp-session-id'] as string
    await new Client({ door: through }, id, {}).post(call('look'))
    expect(seen).toEqual([id, false, id])
  })

  test('a session in SQLite outlives the transport and its backend', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'mcp-roam-transport-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const file = join(folder, 'sessions.db')
    const before = sqlite({ file })
    const { transport, client } = await made(name, before)
    await transport.close()
    await before.close?.()
    const backend = sqlite({ file })
    onTestFinished(async () => void (await backend.close?.()))
    const at = await connected(name, { backend, sessionId: client.id })
    expect((await client.at(at).post(ping())).status).toBe(200)
  })
})

test('closeSSEStream and closeStandaloneSSEStream end a connection, and the client comes back for the rest', async () => {
  const at = await made('node', memory())
  const get = await at.client.get()
  await get.block()
  const pending = at.client.open({ id: 1, method: 'hold' })
  await at.server.received.first(({ message }) => 'id' in message && message.id === 1, 'the request')
  at.transport.closeSSEStream(1)
  at.transport.closeSSEStream('unknown')
  const stream = await pending
  const primed = await stream.block()
  expect(await stream.events()).toEqual([])
  await at.transport.send({ jsonrpc: '2.0', id: 1, result: { done: true } })
  expect((await (await at.client.get(primed?.id)).events()).map(({ message }) => message)).toMatchObject([{ id: 1 }])
  at.transport.closeStandaloneSSEStream()
  expect(await get.events()).toEqual([])
})

test('what asks the SDK’s transport for no sessions at all is refused, not misunderstood', () => {
  const options = { sessionIdGenerator: undefined } as unknown as SessionTransportOptions
  expect(() => new SessionTransport(options)).toThrow(/sessionIdGenerator/)
})

test('a transport cannot be given a second session, or be started twice', async () => {
  const transport = new SessionTransport({ sessionId: 'one' })
  await transport.hydrate('one')
  await expect(transport.hydrate('two')).rejects.toThrow(/already/)
  await new Puppet().connect(transport)
  await expect(new Puppet().connect(transport)).rejects.toThrow(/already/)
  await transport.close()
})

test('a transport that no server was connected to answers 500, and tells onerror why', async () => {
  const errors: Error[] = []
  const transport = new SessionTransport({ onerror: (error) => errors.push(error) })
  const headers = { accept: '*/*', 'content-type': 'application/json' }
  const response = await transport.handleRequest(
    new Request('http://x/mcp', { method: 'POST', headers, body: JSON.stringify(opening) }),
  )
  expect(response.status).toBe(500)
  expect(String(errors)).toMatch(/not connected/)
  await transport.close()
})

/** A backend whose store can be made to fail. */
function failing() {
  const backend = memory()
  const state = { down: false }
  const fail = () => Promise.reject(new Error('postgres://app:hunter2@db: connection refused'))
  const sessions = new Proxy(backend.sessions, {
    get: (target, key) => (state.down ? fail : Reflect.get(target, key)),
  })
  return { backend: { ...backend, sessions }, state }
}
