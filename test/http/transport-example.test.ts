/** The SDK's example with its map of transports: ours stands where theirs stood, and goes on with sessions of a former process. */
import { randomUUID } from 'node:crypto'
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { WebStandardStreamableHTTPServerTransport as WebTransportV1 } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import {
  McpServer as McpServerV2,
  WebStandardStreamableHTTPServerTransport as WebTransportV2,
} from '@modelcontextprotocol/server'
import express from 'express'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { SessionTransport, type SessionTransportOptions } from '../../src/index.js'
import { DOORS, type Door, type DoorName, door } from '../harness/door.js'
import { SDKS, type Sdk } from '../harness/server.js'
import { CLIENT_INFO, initializeMessage, openSession, WireClient } from '../harness/wire-client.js'
import { until } from '../harness/within.js'

/** The text of a tool's answer, whichever way it came. */
const call = async (client: WireClient, name: string) =>
  (await client.request('tools/call', { name, arguments: {} })).body.result.content[0]?.text

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

const KNOWN = JSON.stringify([CLIENT_INFO, { sampling: {} }])

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

  session(): Promise<WireClient> {
    return openSession(this.door, { capabilities: { sampling: {} } })
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

describe.each(everywhere)('the SDK’s example with a server of %s, through %s', (sdk, form) => {
  const kinds: Record<string, ExampleOptions['make']> = {
    // the test says of ours what is true of the SDK's
    'the SDK’s transport': (options) =>
      // biome-ignore lint/suspicious/noExplicitAny: four classes with one shape
      new sdkTransports[`${sdk} ${form}`]({ sessionIdGenerator: randomUUID, ...options } as any) as AnyTransport,
    'the session transport': (options) => new SessionTransport(options),
  }

  test.each(Object.keys(kinds))('%s serves initialize, tools, GET and DELETE', async (kind) => {
    const example = await Example.open({ sdk, form, make: kinds[kind] as ExampleOptions['make'] })
    const client = await example.session()
    const { sessionId: id } = client
    expect([...example.transports.keys()]).toEqual([id])
    expect(example.transports.get(id)?.sessionId).toBe(id)
    expect(example.told).toEqual([`initialized ${id}`])

    const listed = await client.request('tools/list')
    expect(listed).toMatchObject({ status: 200, sessionId: id })
    expect(listed.body.result.tools.map((tool: { name: string }) => tool.name)).toEqual(['who', 'grow'])
    expect(await call(client, 'who')).toBe(KNOWN)

    const get = await client.get()
    expect(get).toMatchObject({ status: 200, sessionId: id })
    await call(client, 'grow')
    expect((await get.next())?.message).toEqual({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })

    const again = await client.send({ body: initializeMessage() })
    expect(again).toMatchObject({ status: 400, body: { error: { code: -32600 } } })

    expect((await client.delete()).status).toBe(200)
    expect(await get.rest()).toEqual([])
    expect((await client.request('ping')).status).toBe(404)
    expect([...example.transports.keys()]).toEqual([])
    expect(example.told).toEqual([`initialized ${id}`, `closed ${id}`, 'onclose'])
  })

  test('is made restart-proof by a handful of lines: POST, GET and DELETE on sessions of a former process', async () => {
    const backend = memory()
    const make: ExampleOptions['make'] = (options) => new SessionTransport({ backend, ...options })
    const before = await Example.open({ sdk, form, make, restartProof: true })
    const one = await before.session()
    const two = await before.session()
    const three = await before.session()
    const after = await Example.open({ sdk, form, make, restartProof: true })

    const posted = await one.at(after.door).request('tools/call', { name: 'who', arguments: {} })
    expect(posted).toMatchObject({ status: 200, sessionId: one.sessionId })
    expect(posted.body.result.content[0].text).toBe(KNOWN)

    const get = await two.at(after.door).get()
    expect(get).toMatchObject({ status: 200, sessionId: two.sessionId })
    await call(two.at(after.door), 'grow')
    expect((await get.next())?.message.method).toBe('notifications/tools/list_changed')

    expect((await three.at(after.door).delete()).status).toBe(200)
    expect([...after.transports.keys()]).toEqual([one.sessionId, two.sessionId])
    // the former process, were it still there, knows as well
    expect((await three.request('ping')).status).toBe(404)
    await until(() => !before.transports.has(three.sessionId))

    expect((await new WireClient(after.door, randomUUID()).request('ping')).status).toBe(404)
    expect([...after.transports.keys()]).toEqual([one.sessionId, two.sessionId])
    expect(after.told.slice(0, 2).sort()).toEqual([`closed ${three.sessionId}`, 'onclose'])
  })
})
