/** The wire table of docs/contract.md, row by row: what is refused, and how. */
import { describe, expect, test } from 'vitest'
import type { SessionHandlerOptions } from '../../src/index.js'
import { DOORS, type Sent } from '../harness/door.js'
import { initializeMessage } from '../harness/wire-client.js'
import { expectRefusal } from './refusal.js'
import { notification, request, stage } from './stage.js'

interface Row {
  /** What is sent by a client that has a session. */
  sent: Sent
  status: number
  code: number
  /** The id that the error echoes; null unless given. */
  id?: string | number
  headers?: Record<string, string>
  message?: RegExp
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
  'a message with a member that none has': {
    sent: { body: request(5, 'ping', { extra: true }) },
    status: 400,
    code: -32600,
    id: 5,
  },
  'a request that is a response, too': {
    sent: { body: request(5, 'ping', { result: {} }) },
    status: 400,
    code: -32600,
    id: 5,
  },
  ...Object.fromEntries(
    [
      5,
      null,
      [],
      { progressToken: 1.5 },
      { progressToken: null },
      { progressToken: {} },
      { progressToken: 2 ** 53 },
      { 'io.modelcontextprotocol/related-task': 'x' },
    ].map((_meta): [string, Row] => [
      `_meta that is ${JSON.stringify(_meta)}`,
      { sent: { body: request('m', 'ping', { params: { _meta } }) }, status: 400, code: -32600, id: 'm' },
    ]),
  ),
  'an integer id that not everybody reads alike': {
    sent: { body: '{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}' },
    status: 400,
    code: -32600,
  },
  'a response with a member that none has': {
    sent: { body: { jsonrpc: '2.0', id: 'x', result: {}, extra: true } },
    status: 400,
    code: -32600,
  },

  // limits of what a body holds
  'a batch of 101 messages': {
    sent: { body: Array.from({ length: 101 }, (_, id) => request(id)) },
    status: 400,
    code: -32600,
    version: '2025-03-26',
    message: /too many/,
  },
  'a body of 129 levels': {
    sent: { body: `{"jsonrpc":"2.0","id":5,"method":"echo","params":{"x":${'['.repeat(127)}${']'.repeat(127)}}}` },
    status: 400,
    code: -32600,
    id: 5,
    message: /nested/,
  },
  'initialize of 100,000 levels': {
    sent: {
      body: JSON.stringify(initializeMessage()).replace('{}', `{"x":${'['.repeat(1e5)}${']'.repeat(1e5)}}`),
    },
    status: 400,
    code: -32600,
    id: 'init',
    outside: true,
    message: /nested/,
  },
  'an id of 1,025 characters': { sent: { body: request('x'.repeat(1025)) }, status: 400, code: -32600 },
  'a progress token of 1,025 characters': {
    sent: { body: request(5, 'echo', { params: { _meta: { progressToken: 'x'.repeat(1025) } } }) },
    status: 400,
    code: -32600,
    id: 5,
  },
  'cancelled for an id of 1,025 characters': {
    sent: { body: notification('notifications/cancelled', { requestId: 'x'.repeat(1025) }) },
    status: 400,
    code: -32600,
  },
  'progress for a token of 1,025 characters': {
    sent: { body: notification('notifications/progress', { progressToken: 'x'.repeat(1025), progress: 1 }) },
    status: 400,
    code: -32600,
  },
  'a response with an id of 1,025 characters': {
    sent: { body: { jsonrpc: '2.0', id: 'x'.repeat(1025), result: {} } },
    status: 400,
    code: -32600,
  },
  'initialize with more than 65,536 characters of the client': {
    sent: { body: initializeMessage({ capabilities: { experimental: { x: 'x'.repeat(65_536) } } }) },
    status: 413,
    code: -32000,
    id: 'init',
    outside: true,
  },
  'a body that may have few levels': {
    sent: { body: request(5, 'echo', { params: { x: { y: {} } } }) },
    options: { limits: { depth: 3 } },
    status: 400,
    code: -32600,
    id: 5,
  },
  ...Object.fromEntries(
    ['accept', 'content-type', 'mcp-protocol-version', 'last-event-id', 'user-agent', 'origin'].map(
      (name): [string, Row] => [
        `a header ${name} of 4,097 characters`,
        {
          sent: { method: 'GET', headers: { [name]: 'x'.repeat(4097) } },
          options: { allowedOrigins: ['https://app.example'] },
          status: 431,
          code: -32000,
        },
      ],
    ),
  ),

  'a batch on 2025-06-18': { sent: { body: [request(1)] }, status: 400, code: -32600, version: '2025-06-18' },
  'a batch on 2025-11-25': { sent: { body: [request(1)] }, status: 400, code: -32600, version: '2025-11-25' },
  'a batch of notifications on 2025-11-25': {
    sent: { body: [notification('notifications/roots/list_changed')] },
    status: 400,
    code: -32600,
  },
  'initialize in a batch': {
    sent: { body: [initializeMessage({ version: '2025-03-26' })] },
    status: 400,
    code: -32600,
    version: '2025-03-26',
  },
  'initialize in a batch, without session id': {
    sent: { body: [initializeMessage({ version: '2025-03-26' })] },
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
  'a request without session id': {
    sent: { body: request(7) },
    status: 400,
    code: -32000,
    id: 7,
    outside: true,
    message: /Mcp-Session-Id/,
  },
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
    sent: { body: { ...initializeMessage(), id: 'again' } },
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
    ['x', '0', '..', 'standalone', '1.2.3', `${'a'.repeat(12)}.standalone.1`, 'a'.repeat(4000), '__proto__'].map(
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

describe.each(DOORS)('through the %s adapter', (name) => {
  test.each(Object.entries(ROWS))('refused: %s', async (_, row) => {
    const at = await stage(name, row.options)
    const client = await at.session({ ...(row.version && { version: row.version }) })
    const answer = row.outside ? await at.send(row.sent) : await client.send(row.sent)
    expectRefusal(answer, row.status, row.code, row.id ?? null)
    expect(answer.headers).toMatchObject(row.headers ?? {})
    if (row.message) expect(answer.body.error.message).toMatch(row.message)
    expect(answer.headers['mcp-session-id']).toBe(row.outside ? undefined : client.sessionId)
    // and the session is as it was
    expect((await client.post(request('after'))).body).toEqual({ jsonrpc: '2.0', id: 'after', result: { echo: null } })
  })

  test('refused: HEAD, without a body', async () => {
    const at = await stage(name)
    const answer = await at.send({ method: 'HEAD' })
    expect(answer.status).toBe(405)
    expect(answer.headers.allow).toBe('GET, POST, DELETE')
  })
})
