/** Messages of clients that take the protocol lightly, or mean harm: for tests of what is answered. */
import fc from 'fast-check'

const METHODS = [
  ...['ping', 'initialize', 'tools/list', 'tools/call', 'prompts/list', 'prompts/get', 'resources/list'],
  ...['resources/templates/list', 'resources/read', 'resources/subscribe', 'resources/unsubscribe', 'logging/setLevel'],
  ...['completion/complete', 'tasks/list', 'tasks/get', 'tasks/result', 'tasks/cancel', 'server/discover'],
  ...[
    'subscriptions/listen',
    'sampling/createMessage',
    'elicitation/create',
    'roots/list',
    'notifications/initialized',
  ],
  ...['notifications/cancelled', 'notifications/progress', 'unknown', '', '__proto__', 'constructor', 'toString'],
]

const PARAMS = [
  ...['name', 'arguments', 'uri', 'level', 'cursor', 'task', 'taskId', 'requestId', 'progressToken', 'ref', 'argument'],
  ...[
    'inputResponses',
    'requestState',
    'protocolVersion',
    'capabilities',
    'clientInfo',
    '__proto__',
    'constructor',
    'x',
  ],
]

const META = [
  ...['progressToken', 'io.modelcontextprotocol/related-task', 'io.modelcontextprotocol/protocolVersion'],
  ...['io.modelcontextprotocol/clientInfo', 'io.modelcontextprotocol/clientCapabilities', 'traceparent', '__proto__'],
  ...['io.modelcontextprotocol/logLevel', 'io.modelcontextprotocol/subscriptionId', 'example.com/x'],
]

const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>('', 'x', 'info', 'test_simple_text', 'test://static-text', 0, -1, 1.5, 2 ** 53 - 1, 2 ** 53),
  fc.constantFrom<unknown>(null, true, [], {}, { taskId: 'x' }, { taskId: 5 }, -(2 ** 53), 1e300),
)

const some = (names: readonly string[], maxKeys: number) => fc.dictionary(fc.constantFrom(...names), value, { maxKeys })

/** Mostly an object, whose members may be anything. */
const meta = fc.oneof({ weight: 3, arbitrary: some(META, 3) }, { weight: 1, arbitrary: value })

function withMeta<T extends object>(members: fc.Arbitrary<T>): fc.Arbitrary<object> {
  return fc
    .tuple(members, fc.option(meta, { nil: undefined }))
    .map(([all, _meta]) => ({ ...all, ...(_meta !== undefined && { _meta }) }))
}

/** Mostly none. */
const strangers = fc.oneof(
  { weight: 8, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: some(['result', 'error', 'meta', '_meta', 'auth', '__proto__', 'x'], 2) },
)

/** JSON text of a message; members that are there twice cannot come from here. */
function text(...parts: fc.Arbitrary<object>[]): fc.Arbitrary<string> {
  return fc.tuple(...parts).map((members) => {
    const texts = members.map((each) => JSON.stringify(each).slice(1, -1)).filter((each) => each !== '')
    return `{${['"jsonrpc":"2.0"', ...texts].join()}}`
  })
}

const params = fc.oneof(
  { weight: 8, arbitrary: withMeta(some(PARAMS, 4)).map((all) => ({ params: all })) },
  { weight: 2, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: value.map((any) => ({ params: any })) },
)

/** A request with an id of its own, or with one that is no id. */
export const oddRequest = (id: () => number): fc.Arbitrary<string> =>
  text(
    fc.oneof(
      { weight: 12, arbitrary: fc.constant(0).map(() => ({ id: id() })) },
      {
        weight: 1,
        arbitrary: fc
          .constantFrom<unknown>(null, true, 1.5, 2 ** 53, -(2 ** 53), 1e300, {}, [])
          .map((any) => ({ id: any })),
      },
    ),
    fc.constantFrom(...METHODS).map((method) => ({ method })),
    params,
    strangers,
  )

/** A notification that any server hears of. */
export const oddNotification: fc.Arbitrary<string> = text(
  fc.constant({ method: 'notifications/odd' }),
  params,
  strangers,
)

const error = fc.record(
  {
    code: fc.oneof({ weight: 3, arbitrary: fc.integer() }, value),
    message: fc.oneof({ weight: 3, arbitrary: fc.string() }, value),
    data: value,
  },
  { requiredKeys: ['code'] },
)

/** A response to the request with this id. */
export const oddResponse = (id: () => unknown): fc.Arbitrary<string> =>
  text(
    fc.constant(0).map(() => ({ id: id() })),
    fc.oneof(
      { weight: 3, arbitrary: withMeta(some(['roots', 'x', '__proto__'], 2)).map((result) => ({ result })) },
      { weight: 3, arbitrary: error.map((any) => ({ error: any })) },
      { weight: 1, arbitrary: value.map((result) => ({ result })) },
    ),
    fc.oneof(
      { weight: 6, arbitrary: fc.constant({}) },
      { weight: 1, arbitrary: some(['meta', '_meta', 'x', 'params'], 2) },
    ),
  )
