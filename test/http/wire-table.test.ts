/** The wire table of docs/contract.md, row by row, and the rules around it, through both adapters. */
import net from 'node:net'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import express, { type RequestHandler } from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { type Backend, createSessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import { within } from '../harness/within.js'
import { type Client, initialize, type Stage, stage } from './puppet.js'
import { type Answer, DOORS, door, fetchDoor, listen, nodeDoor, type Sent } from './raw.js'

const SECRET = 'hunter2'
const request = (id: string | number, method = 'echo', more = {}) => ({ jsonrpc: '2.0', id, method, ...more })
const notification = (method: string, params = {}) => ({ jsonrpc: '2.0', method, params })

function expectRefusal(answer: Answer, status: number, code: number, id: string | number | null): void {
  expect(answer).toMatchObject({ status, json: { jsonrpc: '2.0', error: { code, message: expect.any(String) } } })
  expect(answer.json.id).toBe(id)
  expect(answer.headers['content-type']).toBe('application/json')
  expect(JSON.stringify(answer)).not.toContain(SECRET)
}

interface Row {
  /** What is sent by a client that has a session. */
  sent: Sent
  status: number
  code: number
  /** The id that the error echoes; null unless given. */
  id?: string | number
  headers?: Record<string, string>
  options?: SessionHandlerOptions
  version?: string
  /** Sent without the session's id. */
  outside?: boolean
}

const ROWS: Record<string, Row> = {
  // body not JSON
  'a truncated body': { sent: { body: '{"jsonrpc":"2.0","id":1,' }, status: 400, code: -32700 },
  'a body with something after the JSON': { sent: { body: '{} {}' }, status: 400, code: -32700 },
  'an empty body': { sent: { body: '' }, status: 400, code: -32700 },
  'a body of white space': { sent: { body: ' \n' }, status: 400, code: -32700 },
  'no body': { sent: {}, status: 400, code: -32700 },
  'a body that is no text': { sent: { body: Buffer.from([0xff, 0xfe, 0x00]) }, status: 400, code: -32700 },
  'a string that is not UTF-8': {
    sent: {
      body: Buffer.concat([
        Buffer.from('{"jsonrpc":"2.0","id":1,"method":"echo","params":{"text":"'),
        Buffer.from([0xc3, 0x28]),
        Buffer.from('"}}'),
      ]),
    },
    status: 400,
    code: -32700,
  },
  // not JSON-RPC
  'a JSON number': { sent: { body: '1' }, status: 400, code: -32600 },
  'a JSON string': { sent: { body: '"x"' }, status: 400, code: -32600 },
  'JSON null': { sent: { body: 'null' }, status: 400, code: -32600 },
  'an empty object': { sent: { body: {} }, status: 400, code: -32600 },
  'an empty batch': { sent: { body: [] }, status: 400, code: -32600, version: '2025-03-26' },
  'a batch in a batch': { sent: { body: [[request(1)]] }, status: 400, code: -32600, version: '2025-03-26' },
  'a batch with one bad message': { sent: { body: [request(1), 7] }, status: 400, code: -32600, version: '2025-03-26' },
  'another JSON-RPC version': { sent: { body: { ...request(5), jsonrpc: '1.0' } }, status: 400, code: -32600, id: 5 },
  'a method that is no string': { sent: { body: { ...request('a'), method: 7 } }, status: 400, code: -32600, id: 'a' },
  'params that are no object': { sent: { body: { ...request(5), params: 'x' } }, status: 400, code: -32600, id: 5 },
  'an id that is null': { sent: { body: { ...request(5), id: null } }, status: 400, code: -32600 },
  'an id that is no whole number': { sent: { body: { ...request(5), id: 1.5 } }, status: 400, code: -32600 },
  'an id that is an object': { sent: { body: { ...request(5), id: {} } }, status: 400, code: -32600 },
  'a response with result and error': {
    sent: { body: { jsonrpc: '2.0', id: 1, result: {}, error: { code: 1, message: 'x' } } },
    status: 400,
    code: -32600,
  },
  'a batch on 2025-06-18': { sent: { body: [request(1)] }, status: 400, code: -32600, version: '2025-06-18' },
  'a batch on 2025-11-25': { sent: { body: [request(1)] }, status: 400, code: -32600, version: '2025-11-25' },
  'a batch of notifications on 2025-11-25': {
    sent: { body: [notification('notifications/roots/list_changed')] },
    status: 400,
    code: -32600,
  },
  'initialize in a batch': {
    sent: { body: [initialize('2025-03-26')] },
    status: 400,
    code: -32600,
    version: '2025-03-26',
  },
  'initialize in a batch, without session id': {
    sent: { body: [initialize('2025-03-26')] },
    status: 400,
    code: -32600,
    outside: true,
  },

  // Accept
  'POST without Accept': { sent: { headers: { accept: undefined }, body: request(1) }, status: 406, code: -32000 },
  'POST that accepts only JSON': {
    sent: { headers: { accept: 'application/json' }, body: request(1) },
    status: 406,
    code: -32000,
  },
  'POST that accepts only SSE': {
    sent: { headers: { accept: 'text/event-stream' }, body: request(1) },
    status: 406,
    code: -32000,
  },
  'POST that accepts something which only begins like JSON': {
    sent: { headers: { accept: 'application/jsonx, text/event-stream' }, body: request(1) },
    status: 406,
    code: -32000,
  },
  'POST that refuses JSON by q=0': {
    sent: { headers: { accept: 'application/json;q=0, text/event-stream' }, body: request(1) },
    status: 406,
    code: -32000,
  },
  'GET without Accept': { sent: { method: 'GET', headers: { accept: undefined } }, status: 406, code: -32000 },
  'GET that accepts only JSON': {
    sent: { method: 'GET', headers: { accept: 'application/json' } },
    status: 406,
    code: -32000,
  },
  'GET that accepts application/*': {
    sent: { method: 'GET', headers: { accept: 'application/*' } },
    status: 406,
    code: -32000,
  },

  // Content-Type
  'POST without Content-Type': {
    sent: { headers: { 'content-type': undefined }, body: Buffer.from(JSON.stringify(request(1))) },
    status: 415,
    code: -32000,
  },
  ...Object.fromEntries(
    ['text/plain', 'application/jsonx', 'application/json-seq', 'text/json', 'x-application/json', 'application'].map(
      (type): [string, Row] => [
        `POST of ${type}`,
        { sent: { headers: { 'content-type': type }, body: request(1) }, status: 415, code: -32000 },
      ],
    ),
  ),

  // size
  'a body over the default limit': {
    sent: { body: JSON.stringify(request(1, 'echo', { params: { x: 'x'.repeat(4 * 1024 * 1024) } })) },
    status: 413,
    code: -32000,
  },

  // protocol version
  ...Object.fromEntries(
    ['1999-01-01', '2026-07-28', 'latest', '', '2025-11-25, 2025-06-18'].flatMap((version): [string, Row][] =>
      ['POST', 'GET', 'DELETE'].map((method): [string, Row] => [
        `${method} with protocol version '${version}'`,
        {
          sent: {
            method,
            headers: { 'mcp-protocol-version': version },
            ...(method === 'POST' && { body: request(9) }),
          },
          status: 400,
          code: -32000,
          ...(method === 'POST' && { id: 9 }),
        },
      ]),
    ),
  ),

  // no session id
  'a request without session id': { sent: { body: request(7) }, status: 400, code: -32000, id: 7, outside: true },
  'a request with an empty session id': {
    sent: { headers: { 'mcp-session-id': '' }, body: request(7) },
    status: 400,
    code: -32000,
    id: 7,
    outside: true,
  },
  'a notification without session id': {
    sent: { body: notification('notifications/initialized') },
    status: 400,
    code: -32000,
    outside: true,
  },
  'a response without session id': {
    sent: { body: { jsonrpc: '2.0', id: 1, result: {} } },
    status: 400,
    code: -32000,
    outside: true,
  },
  'a batch without session id': { sent: { body: [request(1)] }, status: 400, code: -32000, outside: true },
  'GET without session id': { sent: { method: 'GET' }, status: 400, code: -32000, outside: true },
  'DELETE without session id': { sent: { method: 'DELETE' }, status: 400, code: -32000, outside: true },

  'initialize on a session that is initialized': {
    sent: { body: initialize('2025-11-25', 'again') },
    status: 400,
    code: -32600,
    id: 'again',
  },
  'a response that nothing waits for': {
    sent: { body: { jsonrpc: '2.0', id: 'nobody', result: {} } },
    status: 400,
    code: -32000,
  },

  // Last-Event-ID
  ...Object.fromEntries(
    ['x', '0', '..', 'standalone', '1.2.3', `${'a'.repeat(12)}.standalone.1`, 'a'.repeat(5000), '__proto__'].map(
      (id): [string, Row] => [
        `GET after '${id.slice(0, 30)}'`,
        { sent: { method: 'GET', headers: { 'last-event-id': id } }, status: 400, code: -32000 },
      ],
    ),
  ),

  // methods
  ...Object.fromEntries(
    ['PUT', 'PATCH', 'OPTIONS', 'QUERY'].map((method): [string, Row] => [
      method,
      { sent: { method }, status: 405, code: -32000, headers: { allow: 'GET, POST, DELETE' } },
    ]),
  ),

  'an Origin that is not allowed': {
    sent: { headers: { origin: 'https://evil.example' }, body: request(1) },
    options: { allowedOrigins: ['https://app.example'] },
    status: 403,
    code: -32000,
  },
}

describe.each(DOORS)('the wire table, %s', (name) => {
  test.each(Object.entries(ROWS))('%s', async (_, row) => {
    const { door, ...at } = await opened(name, row.options)
    const client = await at.stage.initialize(row.version)
    const answer = row.outside ? await door.send(row.sent) : await client.send(row.sent)
    expectRefusal(answer, row.status, row.code, row.id ?? null)
    expect(answer.headers).toMatchObject(row.headers ?? {})
    expect(answer.headers['mcp-session-id']).toBe(row.outside ? undefined : client.id)
    // and the session is as it was
    expect((await client.post(request('after'))).json).toEqual({ jsonrpc: '2.0', id: 'after', result: { echo: null } })
  })

  test('HEAD is refused without a body', async () => {
    const { door } = await opened(name)
    const answer = await door.send({ method: 'HEAD' })
    expect(answer.status).toBe(405)
    expect(answer.headers.allow).toBe('GET, POST, DELETE')
  })

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
    const makers: Record<string, (made: Stage) => Promise<Client>> = {
      unknown: async (made) => {
        const client = await made.initialize()
        return {
          ...client,
          send: (sent: Sent) =>
            client.send({ ...sent, headers: { ...sent.headers, 'mcp-session-id': crypto.randomUUID() } }),
        } as Client
      },
      deleted: async (made) => {
        const client = await made.initialize()
        expect((await client.delete()).status).toBe(200)
        return client
      },
      'deleted on another node': async (made) => {
        const client = await made.initialize()
        await made.handler.sessions.delete(client.id)
        return client
      },
      'of another client': async (made) => foreign(await made.initialize(undefined, headers), 'Bearer other/alice'),
      'of another user': async (made) => foreign(await made.initialize(undefined, headers), 'Bearer app/bob'),
      'of an authenticated user': async (made) => foreign(await made.initialize(undefined, headers), undefined),
      'of someone anonymous': async (made) => foreign(await made.initialize(), 'Bearer app/alice'),
    }
    function foreign(client: Client, authorization: string | undefined): Client {
      const send = (sent: Sent) => client.send({ ...sent, headers: { ...sent.headers, authorization } })
      return { ...client, send } as Client
    }

    test.each(Object.keys(makers))('%s', async (what) => {
      const at = await opened(name)
      const client = await (makers[what] as (typeof makers)[string])(at.stage)
      let first: Answer | undefined
      for (const [way, sent] of Object.entries(ways)) {
        const answer = await client.send(sent)
        expect(answer.json?.error, way).toEqual({ code: -32001, message: 'Session not found' })
        expectRefusal(answer, 404, -32001, way === 'POST of a request' ? 3 : null)
        first ??= answer
        expect(Object.keys(answer.headers).sort(), way).toEqual(Object.keys(first.headers).sort())
        expect(answer.headers, way).not.toHaveProperty('mcp-session-id')
        expect(answer.text).not.toContain(client.id)
      }
    })

    test('expired', async () => {
      let now = Date.now()
      const backend = memory({ now: () => now })
      const before = await opened(name, { backend, idleTtl: 1000 })
      const client = await before.stage.initialize()
      const after = await opened(name, { backend, idleTtl: 1000 })
      now += 1001
      for (const sent of Object.values(ways)) expect((await client.at(after.stage).send(sent)).status).toBe(404)
    })
  })

  test.each([
    ['very long', 'a'.repeat(8000)],
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
  ])('a session id that is hostile: %s', async (_, id) => {
    const backend = memory()
    const asked: string[] = []
    const load = (key: string) => {
      asked.push(key)
      return backend.sessions.load(key)
    }
    const at = await opened(name, { backend: { ...backend, sessions: { ...backend.sessions, load } } })
    const client = await at.stage.initialize()
    const headers = { 'mcp-session-id': id }
    for (const sent of [{ body: request(1) }, { method: 'GET' }, { method: 'DELETE' }]) {
      const answer = await at.door.send({ ...sent, headers })
      expectRefusal(answer, 404, -32001, 'body' in sent ? 1 : null)
      expect(answer.headers).not.toHaveProperty('mcp-session-id')
    }
    const served = await at.door.send({ headers, body: initialize() })
    expect(served.status).toBe(200)
    expect(served.headers['mcp-session-id']).toMatch(/^[\x21-\x7e]{36}$/)
    expect((await client.post(request(2))).status).toBe(200)
    // what cannot be an id does not get to the store at all
    if (id.length > 256 || !/^[\x21-\x7e]+$/.test(id)) expect(asked).not.toContain(id)
    expect(at.stage.errors).toEqual([])
  })

  test.each(['stale', 'unknown', 'foreign'])('initialize with a %s session id: a new session', async (what) => {
    const at = await opened(name)
    const old = await at.stage.initialize(undefined, { authorization: 'Bearer app/alice' })
    if (what === 'stale') await old.delete()
    const id = what === 'unknown' ? crypto.randomUUID() : old.id
    const headers = { 'mcp-session-id': id, ...(what === 'stale' && { authorization: 'Bearer app/alice' }) }
    const answer = await at.door.send({ headers, body: initialize() })
    expect(answer).toMatchObject({ status: 200, json: { id: 'init', result: { protocolVersion: '2025-11-25' } } })
    expect(answer.headers['mcp-session-id']).toBeTruthy()
    expect(answer.headers['mcp-session-id']).not.toBe(id)
    if (what === 'foreign') expect((await old.post(request(1))).status).toBe(200)
  })

  test('initialize with the id of a session that is stored but not live: already initialized', async () => {
    const backend = memory()
    const before = await opened(name, { backend })
    const client = await before.stage.initialize()
    await before.stage.handler.close()
    const after = await opened(name, { backend })
    const answer = await client.at(after.stage).send({ body: initialize() })
    expectRefusal(answer, 400, -32600, 'init')
    expect(after.stage.puppets).toEqual([])
    expect((await client.at(after.stage).post(request(1))).status).toBe(200)
  })

  test('an initialize that the server refuses gives out no session id', async () => {
    const at = await opened(name)
    const answer = await at.door.send({ body: initialize('2025-11-25', 1, { refuse: true }) })
    expect(answer.json).toEqual({ jsonrpc: '2.0', id: 1, error: { code: -32602, message: 'refused by the puppet' } })
    expect(answer.headers).not.toHaveProperty('mcp-session-id')
    expect(await sessionIds(at.stage)).toEqual([])
    expect(at.stage.puppet.closed).toBe(true)
  })

  test('202 has no body and carries the session', async () => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    const accepted = await client.post(notification('notifications/roots/list_changed'))
    expect(accepted).toMatchObject({ status: 202, text: '', headers: { 'mcp-session-id': client.id } })
    await at.stage.puppet.ask(0, 'roots/list')
    const asked = (await (await client.get()).event())?.message
    const answered = await client.post({ id: asked.id, result: { roots: [] } })
    expect(answered).toMatchObject({ status: 202, text: '', headers: { 'mcp-session-id': client.id } })
    await at.stage.puppet.received.first(
      ({ message }) => 'result' in message && message.id === 0,
      'the client’s answer',
    )
    // once answered, nothing waits for it
    expectRefusal(await client.post({ id: asked.id, result: { roots: [] } }), 400, -32000, null)
  })

  test('200, 204 and DELETE carry the session', async () => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    const json = await client.post(request(1))
    expect(json).toMatchObject({
      status: 200,
      headers: { 'content-type': 'application/json', 'mcp-session-id': client.id },
    })
    const pending = client.open({ id: 2, method: 'hold' })
    const call = await at.stage.call(2)
    await call.say('x')
    const sse = await pending
    expect(sse).toMatchObject({ status: 200, sessionId: client.id, headers: { 'content-type': 'text/event-stream' } })
    await call.answer()
    const last = (await sse.events()).at(-1)
    const nothingLeft = await client.get(last?.id)
    expect(nothingLeft).toMatchObject({ status: 204, sessionId: client.id })
    expect(await nothingLeft.text()).toBe('')
    const get = await client.get()
    expect(get).toMatchObject({ status: 200, sessionId: client.id, headers: { 'content-type': 'text/event-stream' } })
    expect(await client.delete()).toMatchObject({ status: 200, text: '', headers: { 'mcp-session-id': client.id } })
    expect(await get.events()).toEqual([])
  })

  test('the protocol version may be left out, or be any that has sessions', async () => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    for (const version of [undefined, '2025-03-26', '2025-06-18', '2025-11-25']) {
      expect((await client.post(request(1), { 'mcp-protocol-version': version })).status).toBe(200)
    }
  })

  test.each([
    'application/json, text/event-stream',
    'text/event-stream,application/json',
    'Application/JSON, TEXT/Event-Stream',
    'application/json;q=0.5, text/event-stream;q=1.0',
    ' application/json ; charset=utf-8 ,\ttext/event-stream ',
    '*/*',
    'application/*, text/*',
    'text/html, */*;q=0.1',
    'application/*;q=0.2, text/event-stream',
  ])('accepted: Accept %s', async (accept) => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    expect((await client.post(request(1), { accept })).status).toBe(200)
    const get = await client.get(undefined, { accept })
    expect(get.status).toBe(200)
    get.abort()
  })

  test.each([
    'application/json',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'Application/JSON',
    'application/json ; x=y',
  ])('accepted: Content-Type %s', async (type) => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    expect((await client.post(request(1), { 'content-type': type })).status).toBe(200)
  })

  describe('size of a body', () => {
    const LIMIT = 1000
    const sized = (size: number) => {
      const empty = JSON.stringify(request(1, 'echo', { params: { x: '' } }))
      return JSON.stringify(request(1, 'echo', { params: { x: 'x'.repeat(size - empty.length) } }))
    }
    const halves = (text: string) => [text.slice(0, 400), text.slice(400)]

    test.each([
      ['declared', (text: string) => ({ body: text })],
      ['streamed', (text: string) => ({ chunks: halves(text) })],
      ['counted in bytes', (text: string) => ({ body: text.replaceAll('xx', 'é') })],
    ] as [string, (text: string) => Sent][])(
      '%s: exactly the limit is served, one byte more is not',
      async (_, sent) => {
        const at = await opened(name, { maxBodySize: LIMIT })
        const client = await at.stage.initialize()
        const exact = sized(LIMIT)
        expect(Buffer.byteLength(exact)).toBe(LIMIT)
        expect((await client.send(sent(exact))).status).toBe(200)
        expectRefusal(await client.send(sent(sized(LIMIT + 1).replace('"id":1', '"id":2'))), 413, -32000, null)
        expect((await client.post(request(3))).status).toBe(200)
      },
    )

    test('a declared one over the limit is refused before it is read', async () => {
      const at = await opened(name, { maxBodySize: LIMIT })
      const client = await at.stage.initialize()
      const headers = { accept: '*/*', 'content-type': 'application/json', 'mcp-session-id': client.id }
      const declared = { ...headers, 'content-length': String(LIMIT + 1) }
      if (name === 'fetch') {
        let read = false
        const body = new ReadableStream(
          {
            pull() {
              read = true
              return new Promise(() => {})
            },
          },
          { highWaterMark: 0 },
        )
        const init = { method: 'POST', headers: declared, body, duplex: 'half' }
        const response = await within(
          at.stage.handler.fetch(new Request('http://x/mcp', init as RequestInit)),
          'an answer',
        )
        expect(response.status).toBe(413)
        expect(read).toBe(false)
        return
      }
      const socket = net.connect(await listen(at.stage.handler.node), '127.0.0.1')
      onTestFinished(() => void socket.destroy())
      const head = Object.entries({ host: 'x', ...declared }).map(([key, value]) => `${key}: ${value}`)
      socket.write(`POST /mcp HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`)
      const answered = new Promise<string>((resolve) => socket.once('data', (data) => resolve(String(data))))
      expect(await within(answered, 'an answer')).toMatch(/^HTTP\/1\.1 413 /)
    })

    test('a character that is cut in two by the network arrives whole', async () => {
      const at = await opened(name)
      const client = await at.stage.initialize()
      const bytes = Buffer.from(JSON.stringify(request(1, 'echo', { params: { x: 'a€😀' } })))
      const chunks = [...bytes].map((byte) => Buffer.from([byte]))
      expect((await client.send({ chunks })).json.result).toEqual({ echo: { x: 'a€😀' } })
    })
  })

  test('a byte order mark means the same at both doors', async () => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    const body = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(JSON.stringify(request(1)))])
    // RFC 8259, section 8.1: it may be ignored
    expect((await client.send({ body })).status).toBe(200)
  })

  test('keys of a body that are names of an object’s insides stay data', async () => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    const body = '{"jsonrpc":"2.0","id":1,"method":"echo","params":{"__proto__":{"polluted":true},"constructor":1}}'
    const answer = await client.send({ body })
    expect(answer.text).toContain('{"echo":{"__proto__":{"polluted":true},"constructor":1}}')
    expect({}).not.toHaveProperty('polluted')
  })

  describe('batches on 2025-03-26', () => {
    test('of requests, notifications and responses: all handled, requests in order, answered as one array', async () => {
      const at = await opened(name)
      const client = await at.stage.initialize('2025-03-26')
      await at.stage.puppet.ask(0, 'roots/list')
      const asked = (await (await client.get()).event())?.message
      const before = at.stage.puppet.received.count
      const answer = await client.send({
        body: [
          request(1, 'echo', { params: { n: 1 } }),
          notification('notifications/roots/list_changed'),
          { jsonrpc: '2.0', id: asked.id, result: { roots: [] } },
          request('two', 'ping'),
        ],
      })
      expect(answer).toMatchObject({
        status: 200,
        headers: { 'content-type': 'application/json', 'mcp-session-id': client.id },
        json: [
          { jsonrpc: '2.0', id: 1, result: { echo: { n: 1 } } },
          { jsonrpc: '2.0', id: 'two', result: {} },
        ],
      })
      const received = at.stage.puppet.received.all.slice(before).map(({ message }) => message)
      expect(received).toHaveLength(4)
      expect(received).toContainEqual(expect.objectContaining({ method: 'notifications/roots/list_changed' }))
      expect(received).toContainEqual(expect.objectContaining({ id: 0, result: { roots: [] } }))
      const requests = received.filter((message) => 'method' in message && 'id' in message)
      expect(requests).toMatchObject([{ id: 1 }, { id: 'two' }])
    })

    test('of one request: an array of one', async () => {
      const at = await opened(name)
      const client = await at.stage.initialize('2025-03-26')
      expect((await client.send({ body: [request(1)] })).json).toEqual([
        { jsonrpc: '2.0', id: 1, result: { echo: null } },
      ])
    })

    test('without requests: 202', async () => {
      const at = await opened(name)
      const client = await at.stage.initialize('2025-03-26')
      const progress = notification('notifications/progress', { progressToken: 'x', progress: 1 })
      expect(await client.send({ body: [progress, progress] })).toMatchObject({ status: 202, text: '' })
    })

    test('answered as SSE when a message comes before the answers: each answer an event of its own', async () => {
      const at = await opened(name)
      const client = await at.stage.initialize('2025-03-26')
      const pending = at.door.open(client.with({ body: [request(1), request(2, 'hold'), request(3, 'hold')] }))
      const two = await at.stage.call(2)
      const three = await at.stage.call(3)
      await two.say('on the way')
      await three.answer()
      await two.answer()
      const messages = (await (await pending).events()).map(({ message }) => message)
      expect(messages).toMatchObject([
        { id: 1, result: { echo: null } },
        { method: 'notifications/message', params: { data: 'on the way' } },
        { id: 3, result: { done: 3 } },
        { id: 2, result: { done: 2 } },
      ])
    })

    test('with one id twice, or the id of a request that still runs: refused whole', async () => {
      const at = await opened(name)
      const client = await at.stage.initialize('2025-03-26')
      const before = at.stage.puppet.received.count
      expectRefusal(await client.send({ body: [request(1), request(1, 'ping')] }), 400, -32600, null)
      expect(at.stage.puppet.received.count).toBe(before)
      const pending = client.open({ id: 5, method: 'hold' })
      const running = await at.stage.call(5)
      const begun = at.stage.puppet.received.count
      const changed = notification('notifications/roots/list_changed')
      expectRefusal(await client.send({ body: [changed, request(4), request(5)] }), 400, -32600, null)
      expect(at.stage.puppet.received.count).toBe(begun)
      expectRefusal(await client.post(request(5)), 400, -32600, 5)
      await running.answer()
      expect(JSON.parse(await (await pending).text())).toMatchObject({ id: 5, result: { done: 5 } })
    })

    test('ids 1 and "1" are two', async () => {
      const at = await opened(name)
      const client = await at.stage.initialize('2025-03-26')
      const { json } = await client.send({ body: [request(1), request('1')] })
      expect(json.map((answer: { id: unknown }) => answer.id)).toEqual([1, '1'])
    })

    test.each(['auto', 'sse', 'json'] as const)(
      'with a response that nothing waits for, %s: its answer ends, and the node goes on',
      async (responseMode) => {
        vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
        onTestFinished(() => void vi.useRealTimers())
        const at = await opened(name, { responseMode })
        const client = await at.stage.initialize('2025-03-26')
        const bogus = { jsonrpc: '2.0', id: 'nobody', result: {} }
        const answer = await at.door.open(client.with({ body: [request(1, 'hold'), bogus] }))
        if (answer.status !== 200) {
          // refused whole: what was begun of it, if anything, must not touch the answer again
          expect(answer.status).toBe(400)
          await answer.text()
          vi.advanceTimersByTime(150)
          await at.stage.calls.all[0]?.answer()
        } else await (await at.stage.call(1)).answer()
        vi.useRealTimers()
        await answer.text()
        expect((await client.post(request(1))).status).toBe(200)
      },
    )
  })

  describe('a store that fails', () => {
    const failures: Record<string, (sessions: Backend['sessions'], fail: () => Promise<never>) => Backend['sessions']> =
      {
        rejecting: (sessions, fail) => ({
          ...sessions,
          create: fail,
          load: fail,
          update: fail,
          delete: fail,
          touch: fail,
        }),
        throwing: (sessions) => {
          const fail = () => {
            throw new Error(`postgres://app:${SECRET}@db: no`)
          }
          return { ...sessions, create: fail, load: fail, update: fail, delete: fail, touch: fail }
        },
        silent: (sessions) => {
          const never = () => new Promise<never>(() => {})
          return { ...sessions, create: never, load: never, update: never, delete: never, touch: never }
        },
      }

    function switchable(kind: string) {
      const backend = memory()
      const broken = (failures[kind] as (typeof failures)[string])(backend.sessions, () =>
        Promise.reject(new Error(`postgres://app:${SECRET}@db: connection refused`)),
      )
      const state = { down: false }
      const sessions = new Proxy(backend.sessions, {
        get: (_, key) => Reflect.get(state.down ? broken : backend.sessions, key),
      })
      return { state, backend: { ...backend, sessions } }
    }

    function expectUnavailable(answer: Answer, id: string | number | null): void {
      expectRefusal(answer, 503, -32603, id)
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
      expect(answer.text).not.toMatch(/postgres|refused|load|create/)
    }

    test.each(Object.keys(failures))('%s: 503 with Retry-After, and fine when it is back', async (kind) => {
      const { state, backend } = switchable(kind)
      const options = { backend, backendTimeout: 50 }
      const before = await opened(name, options)
      const client = await before.stage.initialize()
      const after = await opened(name, options)
      const there = client.at(after.stage)

      state.down = true
      expectUnavailable(await there.post(request(1)), 1)
      expectUnavailable(await there.post(notification('notifications/roots/list_changed')), null)
      expectUnavailable(await there.send({ method: 'GET' }), null)
      expectUnavailable(await there.delete(), null)
      expectUnavailable(await client.delete(), null)
      const initialized = await before.door.send({ body: initialize() })
      expectUnavailable(initialized, 'init')
      expect(initialized.headers).not.toHaveProperty('mcp-session-id')
      expect(before.stage.puppet.closed).toBe(true)
      // a live session goes on, as long as nothing has to be kept
      expect((await client.post(request(2))).status).toBe(200)
      const kept = await client.post(request(3, 'logging/setLevel', { params: { level: 'error' } }))
      expectUnavailable(kept, 3)
      expect(kept.headers['mcp-session-id']).toBe(client.id)
      const causes = before.stage.errors.map(({ cause }) => String(cause))
      expect(causes.length).toBeGreaterThan(0)
      if (kind !== 'silent') expect(causes.join()).toContain(SECRET)

      state.down = false
      expect((await there.post(request(4))).status).toBe(200)
      expect((await client.post(request(5, 'logging/setLevel', { params: { level: 'error' } }))).status).toBe(200)
      expect(await sessionIds(before.stage)).toEqual([client.id])
    })

    test('a 503 of a live session carries its id', async () => {
      const { state, backend } = switchable('rejecting')
      const at = await opened(name, { backend })
      const answer = await at.door.send({ body: initialize() })
      const id = answer.headers['mcp-session-id'] as string
      state.down = true
      const refused = await at.door.send({
        headers: { 'mcp-session-id': id },
        body: notification('notifications/initialized'),
      })
      expectUnavailable(refused, null)
      expect(refused.headers['mcp-session-id']).toBe(id)
    })
  })

  test.each([
    ['the factory', { factory: true }],
    ['onSessionInitialized', { onSessionInitialized: fail }],
    ['principal', { principal: fail }],
    ['sessionIdGenerator', { sessionIdGenerator: fail }],
    ['sessionIdGenerator, by an id that is not visible ASCII', { sessionIdGenerator: () => 'a b' }],
  ] as [string, SessionHandlerOptions & { factory?: boolean }][])(
    'what fails in %s is told to onerror, not to the client',
    async (_, { factory, ...options }) => {
      const errors: Error[] = []
      const handler = createSessionHandler(factory ? fail : () => new McpServerV2({ name: 's', version: '1' }), {
        ...options,
        onerror: (error) => errors.push(error),
      })
      onTestFinished(() => handler.close())
      const answer = await (await door(name, handler)).send({ body: initialize() })
      expectRefusal(answer, 500, -32603, 'init')
      expect(answer.json.error.message).toBe('Internal error')
      expect(answer.headers).not.toHaveProperty('mcp-session-id')
      expect(errors).toHaveLength(1)
    },
  )

  test('a principal that cannot be told, of a live session: 500, and the session goes on', async () => {
    let broken = false
    const principal = async () => (broken ? fail() : 'alice')
    // which ends a process
    const unhandled: unknown[] = []
    const note = (error: unknown) => unhandled.push(error)
    process.on('unhandledRejection', note)
    onTestFinished(() => void process.off('unhandledRejection', note))
    const at = await opened(name, { principal })
    const client = await at.stage.initialize()
    broken = true
    for (const sent of [{ body: request(1) }, { body: notification('notifications/roots/list_changed') }]) {
      expectRefusal(await client.send(sent), 500, -32603, 'id' in sent.body ? 1 : null)
    }
    expectRefusal(await client.send({ method: 'GET' }), 500, -32603, null)
    expectRefusal(await client.delete(), 500, -32603, null)
    broken = false
    expect((await client.post(request(2))).status).toBe(200)
    expect(unhandled).toEqual([])
  })

  test('what the factory throws in a restore is told to onerror, and the session goes on', async () => {
    const backend = memory()
    const before = await opened(name, { backend })
    const client = await before.stage.initialize()
    let broken = true
    const errors: Error[] = []
    const handler = createSessionHandler(() => (broken ? fail() : new McpServerV2({ name: 's', version: '1' })), {
      backend,
      onerror: (error) => errors.push(error),
    })
    onTestFinished(() => handler.close())
    const there = client.at({ door: await door(name, handler) })
    expectRefusal(await there.post(request(1, 'ping')), 500, -32603, 1)
    expect(String(errors)).toContain(SECRET)
    broken = false
    expect((await there.post(request(2, 'ping'))).status).toBe(200)
  })

  test('a draining node sends requests elsewhere, and lets through what running ones wait for', async () => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    const pending = client.open({ id: 1, method: 'hold' })
    const call = await at.stage.call(1)
    await call.ask(0, 'roots/list')
    const sse = await pending
    const asked = (await sse.event())?.message
    const drained = at.stage.handler.drain()
    for (const sent of [{ body: request(2) }, { body: initialize() }, { method: 'GET' }]) {
      const answer = await client.send(sent)
      expect(answer.status).toBe(503)
      expect(answer.headers['retry-after']).toBe('1')
    }
    expect((await client.post({ id: asked.id, result: { roots: [] } })).status).toBe(202)
    await call.answer()
    expect(await sse.event()).toMatchObject({ message: { id: 1 } })
    await within(drained, 'the drain')
  })

  describe.each(['v1', 'v2'] as const)('handlers of the %s SDK line', (sdk) => {
    interface Seen {
      isRequest: boolean
      header: string | undefined
      url: string | undefined
      method: string | undefined
      client: string | undefined
      subject: unknown
      sessionId: string | undefined
    }

    function build(seen: Seen[]) {
      if (sdk === 'v1') {
        const server = new McpServerV1({ name: 's', version: '1' })
        server.registerTool('look', {}, (extra) => {
          seen.push({
            isRequest: true,
            header: extra.requestInfo?.headers['x-probe'] as string,
            url: extra.requestInfo?.url?.pathname,
            method: 'POST',
            client: extra.authInfo?.clientId,
            subject: extra.authInfo?.extra?.sub,
            sessionId: extra.sessionId,
          })
          return { content: [] }
        })
        return server
      }
      const server = new McpServerV2({ name: 's', version: '1' })
      server.registerTool('look', {}, (ctx) => {
        const req = ctx.http?.req
        seen.push({
          isRequest: req instanceof Request,
          header: req?.headers.get('x-probe') ?? undefined,
          url: req && new URL(req.url).pathname,
          method: req?.method,
          client: ctx.http?.authInfo?.clientId,
          subject: ctx.http?.authInfo?.extra?.sub,
          sessionId: ctx.sessionId,
        })
        return { content: [] }
      })
      return server
    }

    test('see the HTTP request and its verified auth, also where the session was restored', async () => {
      const seen: Seen[] = []
      const backend = memory()
      const options = { backend }
      const headers = { authorization: 'Bearer app/alice', 'x-probe': 'one' }
      const before = createSessionHandler(() => build(seen), options)
      const first = await door(name, before)
      const answer = await first.send({ headers, body: initialize('2025-06-18') })
      const id = answer.headers['mcp-session-id'] as string
      const call = (probe: string) => ({
        headers: { ...headers, 'x-probe': probe, 'mcp-session-id': id },
        body: request(probe, 'tools/call', { params: { name: 'look', arguments: {} } }),
      })
      expect((await first.send(call('one'))).json).toMatchObject({ result: { content: [] } })
      await before.close()
      const after = createSessionHandler(() => build(seen), options)
      onTestFinished(() => after.close())
      expect((await (await door(name, after)).send(call('two'))).json).toMatchObject({ result: { content: [] } })
      const expected = { isRequest: true, url: '/mcp', method: 'POST', client: 'app', subject: 'alice', sessionId: id }
      expect(seen).toEqual([
        { ...expected, header: 'one' },
        { ...expected, header: 'two' },
      ])
    })

    test('see no auth where there is none', async () => {
      const seen: Seen[] = []
      const handler = createSessionHandler(() => build(seen))
      onTestFinished(() => handler.close())
      const at = await door(name, handler)
      const id = (await at.send({ body: initialize('2025-06-18') })).headers['mcp-session-id'] as string
      const body = request(1, 'tools/call', { params: { name: 'look', arguments: {} } })
      await at.send({ headers: { 'mcp-session-id': id }, body })
      expect(seen).toMatchObject([{ client: undefined, subject: undefined, header: undefined }])
    })
  })

  test('the web request that handlers see can be used as one', async () => {
    const at = await opened(name)
    const client = await at.stage.initialize()
    await client.post(request(1), { 'x-probe': 'yes' })
    const seen = (await at.stage.received('echo')).extra?.request as Request
    expect(seen).toBeInstanceOf(Request)
    expect(Object.prototype.toString.call(seen)).toBe('[object Request]')
    expect(seen.headers.get('x-probe')).toBe('yes')
    expect(seen.headers).toBe(seen.headers)
    expect(seen.method).toBe('POST')
    expect(new URL(seen.url).pathname).toBe('/mcp')
    expect(seen.signal.aborted).toBe(false)
    // as an auth library does
    expect(new Request(seen.url, { headers: seen.headers }).headers.get('x-probe')).toBe('yes')
  })
})

describe('the node adapter', () => {
  test('control bytes in a session id do not get past node:http', async () => {
    const at = await opened('node')
    const port = await listen(at.stage.handler.node)
    const socket = net.connect(port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.write('DELETE /mcp HTTP/1.1\r\nHost: x\r\nMcp-Session-Id: a\x01\x00b\r\n\r\n')
    const head = await within(
      new Promise<string>((resolve) => socket.once('data', (data) => resolve(String(data)))),
      'an answer',
    )
    expect(head).toMatch(/^HTTP\/1\.1 400 /)
  })

  test('a client that goes away in the middle of its body harms nobody', async () => {
    const at = await opened('node')
    const client = await at.stage.initialize()
    let ended: Promise<unknown> = Promise.resolve()
    const arrived = new Promise<void>((resolve) => {
      void listen((req, res) => {
        ended = at.stage.handler.node(req, res)
        resolve()
      }).then((port) => {
        const socket = net.connect(port, '127.0.0.1')
        socket.on('error', () => {})
        const head = [
          'POST /mcp HTTP/1.1',
          'Host: x',
          'Accept: */*',
          'Content-Type: application/json',
          `Mcp-Session-Id: ${client.id}`,
          'Content-Length: 1000',
        ]
        socket.write(`${head.join('\r\n')}\r\n\r\n{"jsonrpc"`)
        void arrived.then(() => socket.destroy())
      })
    })
    await within(arrived, 'the request')
    await within(ended, 'the end of a request whose client has gone')
    expect((await client.post(request(1))).status).toBe(200)
  })

  test('a declared body over the limit is answered though the client is still writing it', async () => {
    const at = await opened('node', { maxBodySize: 1000 })
    const answer = await at.door.send({ body: 'x'.repeat(8 * 1024 * 1024) })
    expectRefusal(answer, 413, -32000, null)
  })

  test('two session ids in two headers are no session', async () => {
    const at = await opened('node')
    const client = await at.stage.initialize()
    const headers = { 'mcp-session-id': [client.id, client.id] as unknown as string }
    expect((await at.door.send({ headers, body: request(1) })).status).toBe(404)
  })

  test('sees the whole URL where Express has cut off what it was mounted at', async () => {
    const at = await opened('node')
    const app = express()
    app.use('/deep/mcp', (req, res) => void at.stage.handler.node(req, res))
    const open = nodeDoor(await listen(app), '/deep/mcp?x=1')
    const answer = await open({ body: initialize() })
    await answer.text()
    const { extra } = await at.stage.received('initialize')
    expect(extra?.requestInfo?.url?.pathname).toBe('/deep/mcp')
    expect(extra?.request?.url).toMatch(/\/deep\/mcp\?x=1$/)
  })

  test('a request target that looks like another host does not become the URL’s host', async () => {
    const at = await opened('node')
    const open = nodeDoor(await listen(at.stage.handler.node), '//evil.example/mcp')
    await (await open({ body: initialize() })).text()
    const { extra } = await at.stage.received('initialize')
    expect(extra?.requestInfo?.url?.hostname).toBe('127.0.0.1')
  })

  test('a body that something in front has read and not handed on is an error, not a request without end', async () => {
    const at = await opened('node')
    const client = await at.stage.initialize()
    const port = await listen((req, res) => {
      req.resume().on('end', () => void at.stage.handler.node(req, res))
    })
    const { headers, body } = client.with({ body: request(1) })
    const answer = await nodeDoor(port)({ ...(headers && { headers }), body })
    expect(answer.status).toBe(500)
    expect(String(at.stage.errors)).toMatch(/parsedBody/)
  })
})

describe('bodies that were parsed already', () => {
  const ok = { jsonrpc: '2.0', id: 1, result: { echo: { x: 'é' } } }
  const message = request(1, 'echo', { params: { x: 'é' } })

  async function expectServed(at: Stage, port: number): Promise<void> {
    const client = await at.initialize()
    const { headers = {} } = client.with({})
    const open = nodeDoor(port)
    const answer = await open({ headers, body: message })
    expect(JSON.parse(await answer.text())).toEqual(ok)
    const refused = await open({ headers, body: { id: 1 } })
    expect(refused.status).toBe(400)
    const get = await open({ headers, method: 'GET' })
    expect(get.status).toBe(200)
    get.abort()
    expect((await open({ headers, method: 'DELETE' })).status).toBe(200)
    expect((await open({ headers, body: message })).status).toBe(404)
  }

  test('Express with express.json()', async () => {
    const at = (await opened('node')).stage
    const app = express().use(express.json())
    app.all('/mcp', (req, res) => void at.handler.node(req, res, req.body))
    await expectServed(at, await listen(app))
  })

  test('Express, the handler itself as the route, behind express.json()', async () => {
    const at = (await opened('node')).stage
    const app = express().use(express.json())
    app.all('/mcp', at.handler.node as RequestHandler)
    await expectServed(at, await listen(app))
  })

  test('Express, the handler itself as the route, with nothing in front', async () => {
    const at = (await opened('node')).stage
    const app = express()
    app.all('/mcp', at.handler.node as RequestHandler)
    await expectServed(at, await listen(app))
  })

  test('Express, the error of a body parser stays Express’s', async () => {
    const at = (await opened('node')).stage
    const app = express().use(express.json())
    app.all('/mcp', at.handler.node as RequestHandler)
    app.use(((_error, _req, res, _next) => void res.status(400).end('mine')) as express.ErrorRequestHandler)
    const answer = await nodeDoor(await listen(app))({ body: '{' })
    expect(await answer.text()).toBe('mine')
  })

  test('Fastify with its own parser', async () => {
    const at = (await opened('node')).stage
    const app = fastify()
    onTestFinished(() => app.close())
    app.all('/mcp', async (req, reply) => {
      reply.hijack()
      await at.handler.node(req.raw, reply.raw, req.body)
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    await expectServed(at, (app.server.address() as net.AddressInfo).port)
  })

  test.each([
    ['read by the handler', false],
    ['parsed by the route', true],
  ])('Hono, %s', async (_, parsed) => {
    const at = (await opened('fetch')).stage
    const app = new Hono()
    app.all('/mcp', async (c) =>
      parsed && c.req.method === 'POST'
        ? at.handler.fetch(c.req.raw, { parsedBody: await c.req.json() })
        : at.handler.fetch(c.req.raw),
    )
    const open = fetchDoor({ fetch: async (req) => app.fetch(req) })
    const client = await at.initialize()
    const { headers = {} } = client.with({})
    const answer = await open({ headers, body: message })
    expect(JSON.parse(await answer.text())).toEqual(ok)
    expect((await open({ headers, method: 'DELETE' })).status).toBe(200)
  })

  test.each([
    ['null', null, -32600],
    ['a string', JSON.stringify(message), -32600],
    ['a buffer', Buffer.from('{}'), -32600],
    ['an array', [message], -32600],
  ])('%s is judged by the same rules', async (_, parsedBody, code) => {
    const at = (await opened('fetch')).stage
    const client = await at.initialize()
    const { headers = {} } = client.with({})
    const init = {
      method: 'POST',
      headers: { accept: '*/*', 'content-type': 'application/json', ...headers } as Record<string, string>,
    }
    const response = await at.handler.fetch(new Request('http://x/mcp', init), { parsedBody })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ id: null, error: { code } })
  })

  test('the limit for bodies is the parser’s, not ours', async () => {
    const at = (await opened('node', { maxBodySize: 10_000 })).stage
    const app = express().use(express.json({ limit: '1mb' }))
    app.all('/mcp', (req, res) => void at.handler.node(req, res, req.body))
    const client = await at.initialize()
    const { headers = {} } = client.with({})
    const params = { x: 'x'.repeat(20_000) }
    const answer = await nodeDoor(await listen(app))({ headers, body: request(1, 'echo', { params }) })
    expect(answer.status).toBe(200)
  })
})

function fail(): never {
  throw new Error(`told in confidence: ${SECRET}`)
}

async function opened(name: (typeof DOORS)[number], options: SessionHandlerOptions = {}) {
  const made = await stage(name, options)
  return { stage: made, door: made.door }
}

async function sessionIds(at: Stage): Promise<string[]> {
  const ids: string[] = []
  for await (const { id } of at.handler.sessions.list()) ids.push(id)
  return ids
}
