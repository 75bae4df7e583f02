/** Whoever may write to the bus may write anything: a node tells that it has ignored it, and goes on. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { STANDALONE } from '../../src/stream/event-id.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'
import { until } from '../harness/within.js'

const SUBJECTS = ['session', 'connection', 'writer'] as const

/** A node with a session that is live and followed, and somebody else on its bus. */
async function node() {
  const backend = memory()
  const { bus } = backend
  const errors: Error[] = []
  const factory = scripted({ slow: () => new Promise(() => {}) })
  const handler = serve(factory, { backend, onerror: (error) => void errors.push(error), upgradeAfter: 0 })
  const client = await openSession(handler)
  const stream = await client.get()
  // Written here, so that its writer can be asked about.
  const running = await client.open({ id: 'running', method: 'slow' })
  const answers: { id: string; used: boolean }[] = []
  await bus.subscribe('node:stranger', (text) => void answers.push(JSON.parse(text)))
  let count = 0
  /** Resolves with whether the node had a use for the question. */
  const ask = async (subject: string, question: unknown, session = client.sessionId) => {
    const id = `stranger:${count++}`
    const asked = JSON.stringify({ to: 'ask', id, from: 'stranger', subject, session, question })
    await bus.publish(`node:${handler.nodeId}`, asked)
    await until(() => answers.some((answer) => answer.id === id))
    // What comes again gets the same answer, and is not told again.
    await bus.publish(`node:${handler.nodeId}`, asked)
    return answers.find((answer) => answer.id === id)?.used
  }
  const tell = (text: string) => bus.publish(`session:${client.sessionId}`, text)
  /** Nothing has happened to the session. */
  const expectUnharmed = async () => {
    await quiet()
    await factory.last.say('still here')
    expect((await stream.next())?.message).toMatchObject({ params: { data: 'still here' } })
    expect((await client.request('ping')).status).toBe(200)
    expect(factory.servers).toHaveLength(1)
    expect(factory.last.methods.filter((method) => !['slow', 'ping'].includes(method))).toEqual([
      'initialize',
      'notifications/initialized',
    ])
    await factory.last.respond({ id: 'running' })
    expect((await running.rest()).map(({ message }) => message)).toMatchObject([{ id: 'running', result: {} }])
  }
  return { client, bus, errors, ask, tell, expectUnharmed, topic: `node:${handler.nodeId}` }
}

const message = { jsonrpc: '2.0' }
const ANYTHING = [undefined, null, true, 5, 'text', [], [null], {}, { kind: null }, { kind: 'constructor' }]

describe('a question that no node asks', () => {
  test.each(SUBJECTS)('about a %s: is told once, and nobody has a use for it', async (subject) => {
    const { ask, errors, expectUnharmed } = await node()
    for (const [index, question] of ANYTHING.entries()) {
      expect(await ask(subject, question)).toBe(false)
      await quiet()
      expect(errors).toHaveLength(index + 1)
    }
    await expectUnharmed()
  })

  test.each([
    ['session', { kind: 'deliver' }],
    ['session', { kind: 'deliver', message: null }],
    ['session', { kind: 'deliver', message: {} }],
    ['session', { kind: 'deliver', message: { ...message, id: 1, method: 'ping' } }],
    ['session', { kind: 'deliver', message: { ...message, method: 'notifications/progress', params: null } }],
    ['session', { kind: 'cancel', message: { ...message, id: 1, result: {} } }],
    ['session', { kind: 'cancel', message: 'notifications/cancelled' }],
    ['session', { kind: 'notify', message: { method: 'notifications/x' } }],
    ['session', { kind: 'notify' }],
    ['session', { kind: 'updated' }],
    ['session', { kind: 'updated', revision: '2' }],
    ['session', { kind: 'broadcast' }],
    ['session', { kind: 'broadcast', broadcast: { batch: 'b', text: 5 } }],
    ['session', { kind: 'broadcast', broadcast: { batch: 'b', text: '{}', uri: null } }],
    ['connection', { replaced: STANDALONE }],
    ['connection', { replaced: STANDALONE, upTo: 'all' }],
    ['connection', { replaced: null, upTo: 1 }],
    ['writer', { writing: {} }],
  ])('%s %j: is told, and nobody has a use for it', async (subject, question) => {
    const { ask, errors, expectUnharmed } = await node()
    expect(await ask(subject, question)).toBe(false)
    await quiet()
    expect(errors).toHaveLength(1)
    await expectUnharmed()
  })
})

test.each([
  ...['', '{', 'null', '5', '[]', '{}', '{"from":5,"news":null}'],
  ...ANYTHING.map((news) => JSON.stringify({ from: 'stranger', news })),
  ...[
    { stream: STANDALONE },
    { stream: STANDALONE, first: '1', events: ['{}'], ended: true },
    { stream: STANDALONE, first: 1.5, events: ['{}'], ended: true },
    { stream: STANDALONE, first: 1, events: [null], ended: false },
    { stream: STANDALONE, first: 1, events: 5, ended: true },
    { stream: STANDALONE, first: 1, events: { length: 1 }, ended: false },
    { stream: STANDALONE, first: 1, events: ['{}'] },
  ].map((news) => JSON.stringify({ from: 'stranger', news })),
])('news that nobody tells, %s: are told, and nothing comes of them', async (text) => {
  const { tell, errors, expectUnharmed } = await node()
  await tell(text)
  expect(errors).toHaveLength(1)
  await expectUnharmed()
})

test('whatever is sent to a node, it neither throws nor stops', { timeout: 60_000 }, async () => {
  const { client, bus, tell, topic, expectUnharmed } = await node()
  const question = fc.record({
    kind: fc.constantFrom('deliver', 'cancel', 'notify', 'updated', 'broadcast'),
    message: fc.jsonValue(),
    revision: fc.jsonValue(),
    broadcast: fc.jsonValue(),
    replaced: fc.jsonValue(),
    upTo: fc.jsonValue(),
    writing: fc.jsonValue(),
  })
  const news = fc.record({
    stream: fc.constant(STANDALONE),
    first: fc.jsonValue(),
    events: fc.jsonValue(),
    ended: fc.constantFrom(null, 'yes', 1),
  })
  const garbage = fc.oneof(
    fc.string(),
    fc.json(),
    fc.nat(20_000).map((depth) => '['.repeat(depth) + ']'.repeat(depth)),
    fc
      .record(
        {
          to: fc.constantFrom('ask', 'answer', 'both'),
          id: fc.oneof(fc.string(), fc.jsonValue()),
          from: fc.oneof(fc.constant('stranger'), fc.jsonValue()),
          subject: fc.oneof(fc.constantFrom(...SUBJECTS), fc.jsonValue()),
          session: fc.oneof(fc.constantFrom('', client.sessionId, '__proto__'), fc.jsonValue()),
          used: fc.oneof(fc.boolean(), fc.jsonValue()),
          question: fc.oneof(question, fc.jsonValue()),
          news: fc.oneof(news, fc.jsonValue()),
        },
        { requiredKeys: [] },
      )
      .map((envelope) => JSON.stringify(envelope)),
  )
  await fc.assert(
    fc.asyncProperty(garbage, fc.constantFrom('own', 'all', 'news'), async (text, way) => {
      if (way === 'news') await tell(text)
      else await bus.publish(way === 'own' ? topic : 'nodes', text)
    }),
    { numRuns: 500 },
  )
  await expectUnharmed()
})
