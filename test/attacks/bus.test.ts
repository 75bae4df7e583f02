/**
 * Whoever can write to the bus of a real store, and hear what is on it. Without encryption they can say what nodes say: only what
 * no node says is harmless then. With encryption nothing that they send has any effect.
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { MessageBus } from '../../src/backend/backend.js'
import { sealedBus } from '../../src/backend/sealed/bus.js'
import { createSessionHandler, type SessionHandler } from '../../src/index.js'
import { K1, K2, ringOf } from '../backend/sealed/keys.js'
import { describeBackends, type Place } from '../harness/backends.js'
import { type ScriptedFactory, scripted } from '../harness/scripted-server.js'
import { openSession } from '../harness/wire-client.js'
import { until } from '../harness/within.js'

interface OnTheBus {
  topic: string
  text: string
}

/** What means nothing, on any topic. */
const GARBAGE = [
  '',
  ' ',
  '\0',
  '\ud83d',
  '{',
  'null',
  '[]',
  '{}',
  '"mcp-roam:1:"',
  'x'.repeat(100_000),
  '['.repeat(10_000),
  '{"__proto__":{"to":"ask"}}',
  '{"to":"ask"}',
  '{"to":"answer","id":"x","from":5,"used":"yes"}',
  '{"to":"ask","id":"a","from":"stranger","subject":"session","session":"","question":{"kind":"constructor"}}',
  '{"to":"ask","id":"b","from":"stranger","subject":"session","session":"","question":null}',
  '{"from":"stranger","news":null}',
  '{"from":"stranger","news":{"stream":"standalone","first":"1","events":["{}"],"ended":true}}',
  '{"from":"stranger","news":{"stream":"standalone","first":1,"events":[null],"ended":false}}',
]

/** What nodes do say, about a session. */
function forged(session: string): string[] {
  const said = JSON.stringify({
    jsonrpc: '2.0',
    method: 'notifications/message',
    params: { level: 'info', data: 'forged' },
  })
  const message = { jsonrpc: '2.0', method: 'notifications/roots/list_changed' }
  const questions = [
    ['session', session, { kind: 'notify', message }],
    [
      'session',
      session,
      { kind: 'cancel', message: { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'call' } } },
    ],
    ['session', '', { kind: 'broadcast', broadcast: { batch: 'forged', text: said } }],
    ['connection', session, { replaced: 'standalone', upTo: 1 }],
    ['session', session, { kind: 'updated', revision: 1_000 }],
    ['session', session, { kind: 'deleted' }],
  ]
  return [
    ...questions.map(([subject, session, question], i) =>
      JSON.stringify({ to: 'ask', id: `stranger:${i}`, from: 'stranger', subject, session, question }),
    ),
    JSON.stringify({ from: 'stranger', news: { stream: 'standalone', first: 1, events: [said], ended: false } }),
    JSON.stringify({ from: 'stranger', news: { stream: 'standalone', first: 1, events: [], ended: true } }),
  ]
}

interface Node {
  handler: SessionHandler
  factory: ScriptedFactory
}

describeBackends((open) => {
  let place: Place
  beforeEach(() => {
    place = open()
  })
  // Before the backend: nodes that cannot say that they leave would be waited for by those of the next test.
  const ends: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const end of ends.splice(0)) await end()
    await place.close()
  })

  /** Two nodes with two sessions that are live and followed, and somebody who hears all that they say to each other. */
  async function scene(keys?: string[]) {
    const errors: [Error[], Error[]] = [[], []]
    const nodes = place.backends.map((backend, i) => {
      const factory = scripted({ hold: () => new Promise(() => {}) })
      const handler = createSessionHandler(factory, {
        backend: { ...backend, close: async () => {} },
        ...(keys && { encryption: { keys } }),
        upgradeAfter: 0,
        onerror: (error) => void errors[i]?.push(error),
      })
      ends.push(() => handler.close())
      return { handler, factory }
    })
    const [a, b] = nodes as [Node, Node]
    const [alice, bob] = [await openSession(a.handler), await openSession(b.handler)]
    const [aliceAtA, bobAtB] = [a.factory.last, b.factory.last]
    const streams = [await alice.get(), await bob.get()] as const
    const call = await alice.open({ id: 'call', method: 'hold' })

    const { bus } = place.backends[1] as { bus: MessageBus }
    const topics = [a, b].map(({ handler }) => `node:${handler.nodeId}`)
    topics.push('nodes', `session:${alice.sessionId}`, `session:${bob.sessionId}`)
    const heard: OnTheBus[] = []
    for (const topic of topics) {
      const end = await bus.subscribe(topic, (text) => void heard.push({ topic, text }))
      ends.push(end)
    }

    await alice.at(b.handler).request('ping')
    const aliceAtB = b.factory.last
    await bob.at(a.handler).request('ping')
    const bobAtA = a.factory.last
    /** What follows is said once by each, and has each node tell and ask the other. */
    const exchange = async (what: string) => {
      await aliceAtB.say(`${what} for alice`)
      await bobAtA.say(`${what} for bob`)
      await a.handler.notify.toolsChanged()
      expect((await alice.at(b.handler).request('logging/setLevel', { level: 'info' })).status).toBe(200)
      expect((await alice.at(b.handler).notify('notifications/roots/list_changed')).status).toBe(202)
      for (const [i, name] of ['alice', 'bob'].entries()) {
        const got = [await streams[i]?.next(), await streams[i]?.next()].map((event) => event?.message)
        expect(got).toContainEqual(expect.objectContaining({ params: { level: 'info', data: `${what} for ${name}` } }))
        expect(got).toContainEqual(expect.objectContaining({ method: 'notifications/tools/list_changed' }))
      }
    }
    const servers = [aliceAtA, aliceAtB, bobAtA, bobAtB]
    const counts = () => servers.map(({ methods }) => methods.length)
    await exchange('first')
    const before = counts()

    /** Nothing has been said to, or of, anybody but what nodes said themselves. */
    const expectUnharmed = async () => {
      const during = counts()
      await exchange('second')
      expect(during).toEqual(before)
      // Each learns of what the exchange has told it, and of nothing else.
      expect(aliceAtA.methods.slice(before[0])).toEqual(['notifications/roots/list_changed'])
      expect(counts().slice(2)).toEqual(before.slice(2))
      expect(servers.map(({ closed }) => closed)).toEqual([false, false, false, false])
      await aliceAtA.respond({ id: 'call' } as never)
      expect((await call.rest()).map(({ message }) => message)).toMatchObject([{ id: 'call', result: {} }])
      for (const client of [alice, bob]) {
        for (const { handler } of nodes) expect((await client.at(handler).request('ping')).status).toBe(200)
      }
      expect(nodes.map(({ factory }) => factory.servers.length)).toEqual([2, 2])
    }
    return { alice, bob, bus, topics, heard, errors, expectUnharmed }
  }
  type Scene = Awaited<ReturnType<typeof scene>>

  test('without encryption, what no node says is told, and nothing comes of it', async () => {
    const { bus, topics, errors, expectUnharmed } = await scene()
    for (const topic of topics) for (const text of GARBAGE) await bus.publish(topic, text)
    await expectUnharmed()
    for (const told of errors) {
      expect(told.length).toBeGreaterThan(0)
      for (const { message } of told) expect(message).toMatch(/^the bus: .*ignored$/)
    }
  })

  const ATTACKS: [string, RegExp, (scene: Scene) => OnTheBus[]][] = [
    ['what was recorded, sent again', /has come before/, ({ heard }) => [...heard, ...heard]],
    [
      'what was recorded, sent to other topics',
      /was changed in the backend, or put in the place of another/,
      ({ heard, topics }) =>
        heard.flatMap(({ topic, text }) =>
          topics.filter((other) => other !== topic).map((other) => ({ topic: other, text })),
        ),
    ],
    [
      'what was recorded, with a byte changed, or under another sender',
      /was changed in the backend, or put in the place of another/,
      ({ heard }) =>
        heard.flatMap(({ topic, text }) => [
          { topic, text: text.replace(/.(?=.{20}"$)/, (c) => (c === 'A' ? 'B' : 'A')) },
          { topic, text: `${'A'.repeat(16)}${text.slice(16)}` },
        ]),
    ],
    [
      'what nodes would say, in plain text',
      /is not encrypted, and may be forged/,
      ({ alice, topics }) => topics.flatMap((topic) => forged(alice.sessionId).map((text) => ({ topic, text }))),
    ],
    [
      'garbage',
      /is not encrypted, and may be forged/,
      ({ topics }) => topics.flatMap((topic) => GARBAGE.map((text) => ({ topic, text }))),
    ],
  ]

  test.each(ATTACKS)('with encryption, %s: is dropped, and told', async (_, why, attack) => {
    const made = await scene([K1])
    expect(new Set(made.heard.map(({ topic }) => topic))).toEqual(new Set(made.topics))
    for (const { topic, text } of attack({ ...made, heard: [...made.heard] })) await made.bus.publish(topic, text)
    await made.expectUnharmed()
    await until(() => made.errors.every((told) => told.length > 0))
    for (const { message } of made.errors.flat()) {
      expect(message).toMatch(/^the bus: messages that were dropped/)
      expect(message).toMatch(why)
    }
  })

  test('with encryption, what nodes would say, sealed with another key: is dropped, and told', async () => {
    const { alice, bus, topics, errors, expectUnharmed } = await scene([K1])
    const theirs = sealedBus(bus, ringOf(K2), () => {})
    for (const topic of topics) for (const text of forged(alice.sessionId)) await theirs.publish(topic, text)
    await expectUnharmed()
    await until(() => errors.every((told) => told.length > 0))
    for (const { message } of errors.flat()) expect(message).toMatch(/with key [\w-]{8}, which is not among/)
  })
})
