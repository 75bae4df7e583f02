/** With encryption: whoever writes to the store, past mcp-roam, has it unavailable and no more. What they wrote is never served. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createSessionHandler, type SessionHandler } from '../../src/index.js'
import { K1, K2 } from '../backend/sealed/keys.js'
import { describeBackends, type Place } from '../harness/backends.js'
import { authOf } from '../harness/door.js'
import type { Answer } from '../harness/reply.js'
import { scripted } from '../harness/scripted-server.js'
import { openSession, type WireClient } from '../harness/wire-client.js'
import { type Intruder, intruderAt, type Spot } from './intruder.js'

const SECRET = 'plutonium'

interface Owner {
  client: WireClient
  /** Two streams that have ended: their names, and where each begins for its client. */
  streams: [string, string]
  begins: [string, string]
}

/** What is put in the place of a text. `spot` is Alice's, `other` names what else she has of the kind, `foreign` Mallory's. */
interface Texts {
  own: string
  other: string
  foreign: string
  /** Of another kind, under the same names as far as it has them. */
  kind: string
  /** By a node with another key, of the same kind. */
  unknown: string
}

const FORGERIES: Record<string, (texts: Texts) => string> = {
  'that of another session': ({ foreign }) => foreign,
  'another one of the session': ({ other }) => other,
  'one of another kind': ({ kind }) => kind,
  'one that was made with another key': ({ unknown }) => unknown,
  'one with a byte changed': ({ own }) => own.replace(/.(?=.{40}"$)/, (c) => (c === 'A' ? 'B' : 'A')),
  'one with another nonce': ({ own }) => own.replace(/:[\w-]{3}(?=[\w-]+"$)/, ':___'),
  'one of another format': ({ own }) => own.replace('mcp-roam:1:', 'mcp-roam:2:'),
  'one without its end': ({ own }) => `${own.slice(0, -20)}"`,
  'half of it': ({ own }) => own.slice(0, own.length / 2),
  'an envelope with nothing in it': ({ own }) => own.replace(/:[\w-]+"$/, ':"'),
  'plain text': () => JSON.stringify({ forged: true }),
  'an empty text': () => '',
}

/** The same of a record, whose sealed part is a member; then what only a record has. */
type Sealed = Record<string, unknown> & { sealed: string }
const change = (text: string, changes: object) => JSON.stringify({ ...JSON.parse(text), ...changes })
const RECORDS: Record<string, (texts: Texts & { plain: string }) => string> = {
  ...Object.fromEntries(
    Object.entries(FORGERIES)
      .filter(([what]) => what !== 'another one of the session')
      .map(([what, forge]) => [
        `in its sealed part ${what}`,
        (texts: Texts) => {
          const inner = (text: string) => JSON.stringify((JSON.parse(text) as Sealed).sealed ?? text).slice(1, -1)
          const part = (text: string) => JSON.parse(`"${inner(text)}"`) as string
          const { own, foreign, unknown } = texts
          return change(own, {
            sealed: forge({ ...texts, own: part(own), foreign: part(foreign), unknown: part(unknown) }),
          })
        },
      ]),
  ),
  'that of another session': ({ foreign }) => foreign,
  'that of another session under the id of this one': ({ own, foreign }) => change(foreign, { id: JSON.parse(own).id }),
  'another revision': ({ own }) => change(own, { revision: 7 }),
  'another time of creation': ({ own }) => change(own, { createdAt: 1 }),
  'ancestors that it has not': ({ own }) => change(own, { ancestors: [1, 9] }),
  'half of it': ({ own }) => own.slice(0, own.length / 2),
  'a record in plain text': ({ own, plain }) => change(plain, { id: JSON.parse(own).id }),
  'a record in plain text, with what was sealed': ({ own, plain }) =>
    change(plain, { id: JSON.parse(own).id, sealed: JSON.parse(own).sealed }),
  'one that says that it is plain': ({ own }) => change(own, { version: 1 }),
}

describeBackends((open) => {
  let place: Place
  let intruder: Intruder
  let alice: Owner
  let mallory: Owner
  /** Mallory's session on nodes with another key, and on nodes without. */
  let unknown: Owner
  let plain: Owner
  /** A node that restores Alice's session while everything is as it should be. */
  let restored: ReturnType<typeof node>
  const homes: SessionHandler[] = []

  beforeAll(async () => {
    place = open()
    const at = (keys?: string[]) => {
      const factory = scripted({
        'tools/call': async ({ id }, server) => {
          await server.say(SECRET, id)
          return { content: [] }
        },
      })
      const encryption = keys && { encryption: { keys } }
      const handler = createSessionHandler(factory, { backend: place.backends[0], upgradeAfter: 0, ...encryption })
      homes.push(handler)
      return async (name: string): Promise<Owner> => {
        const client = await openSession(handler, { authInfo: authOf('app', name) })
        for (const key of ['a', 'b']) await factory.last.context.session.state.set(key, `${SECRET} ${key}`)
        const begins = (await Promise.all([1, 2].map((id) => answered(client, id)))) as [string, string]
        return { client, begins, streams: begins.map((begin) => begin.split('.')[1]) as [string, string] }
      }
    }
    const ours = at([K1])
    ;[alice, mallory] = [await ours('alice'), await ours('mallory')]
    unknown = await at([K2])('mallory')
    plain = await at()('mallory')
    intruder = intruderAt(place.where)
    restored = node()
    expect((await restored.client.request('ping')).status).toBe(200)
    return async () => {
      await Promise.all(homes.map((handler) => handler.close()))
    }
  })

  afterAll(async () => {
    await intruder.close()
    await place.close()
  })

  /** A call that is answered by a stream; resolves with the event id of its beginning. */
  async function answered(client: WireClient, id: number): Promise<string> {
    const events = await (await client.open({ id, method: 'tools/call', params: {} })).rest()
    return String(events[0]?.id).replace(/\d+$/, '0')
  }

  /** A node that has not had any of these sessions. */
  function node() {
    const factory = scripted()
    const errors: Error[] = []
    const handler = createSessionHandler(factory, {
      backend: { ...(intruder.backend ?? place.backends[1]), close: async () => {} },
      encryption: { keys: [K1] },
      onerror: (error) => void errors.push(error),
    })
    homes.push(handler)
    return { factory, errors, client: alice.client.at(handler), handler }
  }

  /** Puts a text where Alice's is, as long as the test runs. */
  async function forge(spot: Spot, text: string) {
    const own = await intruder.read(spot)
    expect(text).not.toBe(own)
    onTestFinished(() => intruder.write(spot, own))
    await intruder.write(spot, text)
  }

  const spots = (kind: 'value' | 'head' | 'event', { client, streams }: Owner, which: 0 | 1 = 0): Spot => {
    const session = client.sessionId
    return kind === 'value'
      ? { kind, session, key: ['a', 'b'][which] ?? '' }
      : { kind, session, stream: streams[which] }
  }

  async function textsOf(kind: 'value' | 'head' | 'event'): Promise<Texts> {
    const others = { value: 'event', head: 'event', event: 'head' } as const
    const read = (...args: Parameters<typeof spots>) => intruder.read(spots(...args))
    const [own, other, foreign] = [await read(kind, alice), await read(kind, alice, 1), await read(kind, mallory)]
    return { own, other, foreign, kind: await read(others[kind], alice), unknown: await read(kind, unknown) }
  }

  function expectUnavailable(answer: Answer): void {
    expect([answer.status, answer.headers['retry-after']]).toEqual([503, '1'])
    expect(answer.text).not.toMatch(new RegExp(`key|encrypt|plain|forged|${SECRET}`))
  }

  test('what the session has is there, on another node', async () => {
    const { factory, client, errors } = restored
    expect(await factory.last.context.session.state.get('a')).toBe(`${SECRET} a`)
    expect(JSON.stringify(await (await client.get(alice.begins[0])).rest())).toContain(SECRET)
    expect(errors).toEqual([])
  })

  test.each(Object.entries(RECORDS))('in the place of its record, %s', async (_, make) => {
    const read = ({ client }: Owner) => intruder.read({ kind: 'record', session: client.sessionId })
    const texts = { own: await read(alice), foreign: await read(mallory), unknown: await read(unknown) }
    const kind = await intruder.read(spots('value', alice))
    const { factory, client, errors, handler } = node()
    await forge(
      { kind: 'record', session: client.sessionId },
      make({ ...texts, kind, other: '', plain: await read(plain) }),
    )
    const answers = [
      client.request('ping'),
      client.notify('notifications/roots/list_changed'),
      client.send({ method: 'GET' }),
      client.send({ method: 'GET', headers: { 'last-event-id': alice.begins[0] } }),
      client.delete(),
      ...['alice', 'mallory'].map((name) => client.request('tools/list', {}, { authInfo: authOf('app', name) })),
    ]
    for (const answer of await Promise.all(answers)) expectUnavailable(answer)
    expect(factory.servers).toEqual([])
    await expect(handler.sessions.get(client.sessionId)).rejects.toThrow()
    expect(errors.length).toBeGreaterThan(0)
  })

  describe.each(['value', 'head', 'event'] as const)('in the place of its %s,', (kind) => {
    test.each(Object.entries(FORGERIES))('%s', async (_, make) => {
      await forge(spots(kind, alice), make(await textsOf(kind)))
      const { factory, client } = restored
      const { state } = factory.last.context.session
      const resume = (which: 0 | 1) => client.send({ method: 'GET', headers: { 'last-event-id': alice.begins[which] } })
      if (kind === 'value') await expect(state.get('a')).rejects.toThrow()
      else expectUnavailable(await resume(0))
      // What was left as it was is served.
      expect(await state.get('b')).toBe(`${SECRET} b`)
      expect(JSON.stringify((await resume(1)).events)).toContain(SECRET)
    })
  })

  test('and nodes that have the session live go on, with what they know', async () => {
    for (const { client } of [alice, restored]) expect((await client.request('ping')).status).toBe(200)
  })
})
