/** What is sent in a fuzz: from what a good client sends to bytes that are no HTTP. */
import fc from 'fast-check'

/** Whose session a request names. */
export type Whose = 'own' | 'foreign' | 'ended' | 'unknown' | 'mangled' | 'none'

/** One HTTP exchange, or what is meant to pass for one. */
export interface Exchange {
  /** `raw`: over a socket of its own, byte for byte. */
  way: 'http' | 'raw'
  door: 'node' | 'fetch'
  method: string
  whose: Whose
  /** Beside, or in place of, those of a good client; undefined leaves one out. */
  headers: Record<string, string | undefined>
  body: Buffer | undefined
  /** Raw only: what the bytes of the request are made into. */
  damage: Damage
  /** How long after its head an answer that does not end by itself is read, in ms. */
  patience: number
}

/** `at`: from 0 to 1, where in the bytes. */
export interface Damage {
  kind: 'none' | 'cut' | 'flip' | 'double' | 'insert' | 'length' | 'chunked' | 'slow'
  at: number
  bytes: Uint8Array
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

const rarely = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>, weight = 4): fc.Arbitrary<T> =>
  fc.oneof({ arbitrary: usual, weight }, { arbitrary: odd, weight: 1 })

const anything = fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>
const key = fc.oneof(
  fc.constantFrom('__proto__', 'constructor', 'toString', '', 'id', 'method', '_meta', 'params', 'result', 'error'),
  fc.string({ maxLength: 8 }),
)

const id = rarely(
  fc.oneof(fc.uuid(), fc.nat()) as fc.Arbitrary<Json>,
  fc.oneof(
    anything,
    fc.constantFrom<Json>(0, -1, 2 ** 53, -(2 ** 53), 1e300, 1.5, '', 'a'.repeat(2000), '__proto__', 'init'),
  ),
  12,
)

const word = rarely(fc.constantFrom('a', 'b', 'error', 'info', 'fuzz://a', 'fuzz://b'), fc.string({ maxLength: 40 }))
const meta = fc.record({ progressToken: fc.oneof(id, fc.nat(20) as fc.Arbitrary<Json>) }, { requiredKeys: [] })

const tool = fc.oneof(
  fc.record({ name: fc.constant('echo'), arguments: fc.record({ text: fc.string() }) }),
  fc.record({ name: fc.constantFrom('whoami', 'aside') }),
  fc.record({ name: fc.constant('work'), arguments: fc.record({ steps: fc.nat(6), ms: fc.nat(60) }) }),
  fc.record({ name: fc.string(), arguments: anything }),
) as fc.Arbitrary<Json>

const METHODS: Record<string, fc.Arbitrary<Json>> = {
  ping: fc.constant({}),
  'tools/list': fc.record({ cursor: fc.string() }, { requiredKeys: [] }),
  'tools/call': tool,
  'resources/list': fc.constant({}),
  'resources/templates/list': fc.constant({}),
  'resources/read': fc.record({ uri: word }),
  'resources/subscribe': fc.record({ uri: word }),
  'resources/unsubscribe': fc.record({ uri: word }),
  'prompts/list': fc.constant({}),
  'prompts/get': fc.record({ name: fc.constant('greet'), arguments: fc.record({ name: fc.string() }) }),
  'completion/complete': fc.record({
    ref: fc.record({ type: fc.constant('ref/prompt'), name: word }),
    argument: fc.record({ name: word, value: word }),
  }),
  'logging/setLevel': fc.record({ level: fc.constantFrom('debug', 'error', 'none', '') }),
  initialize: fc.record({
    protocolVersion: fc.constantFrom('2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05', '1', ''),
    capabilities: rarely(fc.constant({}), fc.object({ maxDepth: 3 }) as fc.Arbitrary<object>),
    clientInfo: fc.record({ name: fc.constant('stranger'), version: word }),
  }) as fc.Arbitrary<Json>,
  'server/discover': fc.constant({}),
  'subscriptions/listen': anything,
  'notifications/initialized': fc.constant({}),
  'notifications/cancelled': fc.record({ requestId: id, reason: word }, { requiredKeys: [] }) as fc.Arbitrary<Json>,
  'notifications/progress': fc.record({ progressToken: id, progress: fc.nat() }) as fc.Arbitrary<Json>,
  'notifications/roots/list_changed': fc.constant({}),
  'rpc.discover': anything,
  '': anything,
}

const method = fc.constantFrom(...Object.keys(METHODS))

const request = method.chain((name) =>
  fc
    .record({ id, params: METHODS[name] ?? anything, meta: rarely(fc.constant(undefined), meta) })
    .map(({ id, params, meta }): { [key: string]: Json } => {
      const withMeta = meta && params !== null && typeof params === 'object' && !Array.isArray(params)
      const said = withMeta ? { ...params, _meta: meta as Json } : params
      return {
        jsonrpc: '2.0',
        ...(name.startsWith('notifications/') ? {} : { id }),
        method: name,
        ...(said !== undefined && { params: said }),
      }
    }),
)

const response = fc
  .record({ id: fc.oneof(id, fc.string() as fc.Arbitrary<Json>), answer: anything, isError: fc.boolean() })
  .map(({ id, answer, isError }): { [key: string]: Json } => ({
    jsonrpc: '2.0',
    id,
    ...(isError ? { error: answer } : { result: answer }),
  }))

/** A message with one thing changed somewhere in it. */
const changed = fc
  .record({ message: fc.oneof(request, response), at: fc.array(fc.nat(5), { maxLength: 3 }), key, value: anything })
  .map(({ message, at, key, value }) => {
    const copy = structuredClone(message)
    let place: { [key: string]: Json } = copy
    for (const step of at) {
      const children = Object.values(place).filter((child) => child !== null && typeof child === 'object')
      const child = children[step % Math.max(children.length, 1)]
      if (child && !Array.isArray(child)) place = child as { [key: string]: Json }
    }
    const keys = Object.keys(place)
    const chosen = (at.length % 2 === 0 ? key : keys[(at[0] ?? 0) % Math.max(keys.length, 1)]) ?? key
    if (value === null && keys.length > 0) delete place[chosen]
    else Object.defineProperty(place, chosen, { value, enumerable: true, configurable: true, writable: true })
    return copy
  })

const message = fc.oneof(
  { arbitrary: request, weight: 6 },
  { arbitrary: changed, weight: 3 },
  { arbitrary: response, weight: 1 },
)

const nested = fc
  .record({ depth: fc.nat(20_000), open: fc.constantFrom('[', '{"a":'), inside: fc.boolean() })
  .map(({ depth, open, inside }) => {
    const deep = `${open.repeat(depth)}1${(open === '[' ? ']' : '}').repeat(depth)}`
    return inside ? `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":${deep}}}` : deep
  })

const json = fc.oneof(
  { arbitrary: message.map((one) => JSON.stringify(one)), weight: 30 },
  { arbitrary: fc.array(message, { maxLength: 6 }).map((all) => JSON.stringify(all)), weight: 3 },
  { arbitrary: anything.map((value) => JSON.stringify(value)), weight: 2 },
)

const body = fc.oneof(
  { arbitrary: json.map((text) => Buffer.from(text)), weight: 40 },
  {
    arbitrary: fc
      .tuple(json, fc.double({ min: 0, max: 1, noNaN: true }), fc.uint8Array({ maxLength: 3 }))
      .map(([text, at, bytes]) => {
        const whole = Buffer.from(text)
        const where = Math.floor(at * whole.length)
        return Buffer.concat([whole.subarray(0, where), bytes, whole.subarray(where + bytes.length)])
      }),
    weight: 4,
  },
  { arbitrary: nested.map((text) => Buffer.from(text)), weight: 1 },
  {
    arbitrary: fc
      .tuple(message, fc.integer({ min: 50, max: 300 }))
      .map(([one, count]) => Buffer.from(JSON.stringify(Array(count).fill(one)))),
    weight: 1,
  },
  {
    arbitrary: fc
      .tuple(fc.constantFrom('x', '"', '\\u0000', '{'), fc.integer({ min: 1000, max: 200_000 }))
      .map(([text, count]) => Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"${text.repeat(count)}"}`)),
    weight: 1,
  },
  { arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)), weight: 1 },
)

const visible = fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) })
const odd = fc.oneof(visible, fc.constantFrom('', '*/*', 'a'.repeat(5000), '2'.repeat(300), 'é', '\t'))

const headers = fc.record(
  {
    accept: fc.oneof(
      fc.constantFrom('application/json', 'text/event-stream', '*/*', 'text/*;q=0, application/json', undefined),
      odd,
    ),
    'content-type': fc.oneof(fc.constantFrom('application/json; charset=utf-8', 'text/plain', undefined), odd),
    'mcp-protocol-version': fc.oneof(fc.constantFrom('2025-06-18', '2025-03-26', '2026-07-28', undefined), odd),
    'last-event-id': fc.oneof(fc.constantFrom('seen', 'foreign', 'beyond', 'before'), odd),
    host: fc.oneof(fc.constantFrom('localhost', 'evil.example', '127.0.0.1:1', '[::1]'), odd),
    origin: fc.oneof(fc.constantFrom('http://localhost', 'https://evil.example', 'null'), odd),
    authorization: fc.constantFrom('Bearer alice', 'Bearer bob', 'Bearer ', undefined),
    'x-other': odd,
  },
  { requiredKeys: [] },
)

const damage: fc.Arbitrary<Damage> = fc.record({
  kind: fc.constantFrom('none', 'cut', 'flip', 'double', 'insert', 'length', 'chunked', 'slow'),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  bytes: fc.uint8Array({ maxLength: 20 }),
})

const NO_HEADERS: Record<string, string | undefined> = {}

export const exchange: fc.Arbitrary<Exchange> = fc.record({
  way: fc.oneof(
    { arbitrary: fc.constant('http' as const), weight: 9 },
    { arbitrary: fc.constant('raw' as const), weight: 1 },
  ),
  door: fc.constantFrom('node', 'fetch'),
  method: fc.oneof(
    { arbitrary: fc.constant('POST'), weight: 40 },
    { arbitrary: fc.constant('GET'), weight: 4 },
    { arbitrary: fc.constant('DELETE'), weight: 1 },
    { arbitrary: fc.constantFrom('PUT', 'OPTIONS', 'HEAD', 'PATCH'), weight: 1 },
  ),
  whose: fc.oneof(
    { arbitrary: fc.constant<Whose>('own'), weight: 30 },
    { arbitrary: fc.constantFrom<Whose>('foreign', 'ended', 'unknown', 'mangled', 'none'), weight: 4 },
  ),
  headers: fc.oneof({ arbitrary: fc.constant(NO_HEADERS), weight: 6 }, { arbitrary: headers, weight: 1 }),
  body: fc.oneof({ arbitrary: body, weight: 30 }, { arbitrary: fc.constant(undefined), weight: 1 }),
  damage,
  patience: fc.nat(40),
}) as fc.Arbitrary<Exchange>
