/** Ids that are none cost the store little and the node's time less; sessions that there are get no 404 and no wait for it. */
import { describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { Ticks } from '../../src/util/ticks.js'
import { authOf } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession, WireClient } from '../harness/wire-client.js'

const SECRET = 's'.repeat(32)

/** So many requests at once, each for a session of its own that there is not. */
function flood(handler: ConstructorParameters<typeof WireClient>[0], count: number) {
  const statuses: number[] = []
  const sent = Array.from({ length: count }, async () => {
    const { status } = await new WireClient(handler, crypto.randomUUID()).request('ping')
    statuses.push(status)
  })
  return { statuses, done: Promise.all(sent) }
}

/** Lets a flood go as far as it can without time passing. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await quiet()
}

test('5,000 random ids with a secret: the store is not asked once', async () => {
  fakeTime()
  const backend = gated()
  const { statuses, done } = flood(
    serve(scripted(), { backend, secret: SECRET, limits: { misses: Number.POSITIVE_INFINITY } }),
    5000,
  )
  await done
  expect(new Set(statuses)).toEqual(new Set([404]))
  expect(backend.calls.count('sessions')).toBe(0)
})

test('5,000 random ids without a secret: 1,250 look-ups at once, then 250 a second; who waits for 10 s gets 503', async () => {
  const pass = fakeTime()
  const backend = gated()
  const { statuses, done } = flood(serve(scripted(), { backend }), 5000)
  await settled()
  expect(backend.calls.count('sessions.load')).toBe(1250)
  expect(statuses).toHaveLength(1250)
  for (let second = 1; second <= 10; second++) {
    for (let i = 0; i < 20; i++) await pass(50)
    await settled()
    const loads = backend.calls.count('sessions.load')
    expect(loads).toBeLessThanOrEqual(1250 + 250 * second)
    expect(loads).toBeGreaterThan(1250 + 240 * second)
  }
  await pass(100)
  await done
  const loads = backend.calls.count('sessions.load')
  expect(statuses.filter((status) => status === 404)).toHaveLength(loads)
  expect(statuses.filter((status) => status === 503)).toHaveLength(5000 - loads)
})

test('with a secret, forged ids keep nobody waiting who has a session', async () => {
  const pass = fakeTime()
  const shared = memory()
  const client = await openSession(serve(scripted(), { backend: shared, secret: SECRET }))
  const handler = serve(scripted(), { backend: shared, secret: SECRET })
  const { statuses } = flood(handler, 3000)
  await settled()
  // 1,000 wait; what there is beyond that is too much.
  expect(statuses.filter((status) => status === 404)).toHaveLength(1250)
  expect(statuses.filter((status) => status === 503)).toHaveLength(750)
  expect((await client.at(handler).request('ping')).status).toBe(200)
  await pass(11_000)
})

test('ids that were none keep nobody waiting who has a session, though they have a good signature', async () => {
  const pass = fakeTime()
  const shared = memory()
  const options = { backend: shared, secret: SECRET, limits: { misses: 10 } }
  const home = serve(scripted(), options)
  const client = await openSession(home)
  const dead = await openSession(home)
  await dead.delete()
  const handler = serve(scripted(), options)
  const ask = () => dead.at(handler).request('ping')
  expect((await ask()).status).toBe(404)
  const flood = Promise.all(Array.from({ length: 300 }, ask))
  await settled()
  expect((await client.at(handler).request('ping')).status).toBe(200)
  await pass(11_000)
  const statuses = (await flood).map(({ status }) => status)
  expect(new Set(statuses)).toEqual(new Set([404, 503]))
  expect(statuses.filter((status) => status === 404).length).toBeLessThanOrEqual(50 + 10 * 11)
})

test('an id that was none, and is one now, is asked for like any other', async () => {
  fakeTime()
  const shared = memory()
  const options = { backend: shared, limits: { misses: 1 } }
  const early = serve(scripted(), options)
  const asked = () => new WireClient(early, 'known').request('ping')
  expect((await asked()).status).toBe(404)
  const client = await openSession(serve(scripted(), { ...options, sessionIdGenerator: () => 'known' }))
  // Time stands still: nobody waits.
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => client.at(early).notify('notifications/cancelled')),
  )
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]))
})

test('clients that all come back at once are neither refused nor kept waiting', async () => {
  fakeTime()
  const shared = memory()
  const template = await openSession(serve(scripted(), { backend: shared }))
  const stored = await shared.sessions.load(template.sessionId)
  if (!stored) throw new Error('not stored')
  const ids = Array.from({ length: 10_000 }, () => crypto.randomUUID())
  for (const id of ids) await shared.sessions.create({ ...stored.record, id }, 60_000)
  const handler = serve(scripted(), { backend: shared })
  // Time stands still: nothing that waits for its turn would be answered.
  const answers = await Promise.all(ids.map((id) => new WireClient(handler, id).request('ping')))
  expect(answers.every(({ status }) => status === 200)).toBe(true)
}, 60_000)

test('at most 500 look-ups are on their way at a time', async () => {
  fakeTime()
  const backend = gated()
  const gates = Array.from({ length: 600 }, () => backend.calls.hold('sessions.load'))
  const { done } = flood(serve(scripted(), { backend, limits: { misses: 1000 } }), 600)
  await settled()
  expect(backend.calls.count('sessions.load')).toBe(500)
  for (const gate of gates) gate.open()
  await done
  expect(backend.calls.count('sessions.load')).toBe(600)
})

describe('a session that was made a moment ago, under an id that was asked for before, is found', () => {
  test('after a 404', async () => {
    fakeTime()
    const shared = memory()
    const backend = gated(shared)
    const early = serve(scripted(), { backend })
    expect((await new WireClient(early, 'known').request('ping')).status).toBe(404)
    const client = await openSession(serve(scripted(), { backend: shared, sessionIdGenerator: () => 'known' }))
    expect((await client.at(early).request('ping')).status).toBe(200)
  })

  test.each(['request', 'response'])(
    'while somebody else still waits for the answer that there is none: a %s',
    async (what) => {
      const shared = memory()
      const backend = gated(shared)
      const early = serve(scripted(), { backend })
      const gate = backend.calls.holdAnswer('sessions.load')
      const guess = new WireClient(early, 'known')
      const send = (client: WireClient) =>
        what === 'request'
          ? client.request('ping')
          : client.notify('notifications/progress', { progressToken: 1, progress: 1 })
      const guessed = send(guess)
      await gate.reached
      const client = await openSession(serve(scripted(), { backend: shared, sessionIdGenerator: () => 'known' }))
      const found = send(client.at(early))
      const also = send(client.at(early))
      await quiet()
      gate.open()
      expect((await guessed).status).toBe(404)
      expect([(await found).status, (await also).status]).toEqual(what === 'request' ? [200, 200] : [202, 202])
      // All who came later share one look-up.
      expect(backend.calls.count('sessions.load')).toBe(2)
    },
  )
})

describe('somebody else’s session', () => {
  const alice = authOf('app', 'alice')
  const bob = { authInfo: authOf('app', 'bob') }

  test.each(['live', 'stored'])('counts as a miss, like one that there is not: %s', async (where) => {
    const pass = fakeTime()
    const shared = memory()
    const home = serve(scripted(), { backend: shared, limits: { misses: 1 } })
    const client = await openSession(home, { authInfo: alice })
    const at = client.at(where === 'live' ? home : serve(scripted(), { backend: shared, limits: { misses: 1 } }))
    const statuses: number[] = []
    const sent = Array.from({ length: 7 }, async () => statuses.push((await at.request('ping', {}, bob)).status))
    await settled()
    expect(statuses).toEqual([404, 404, 404, 404, 404])
    await pass(2_100)
    await Promise.all(sent)
    expect(statuses).toHaveLength(7)
    expect((await client.request('ping')).status).toBe(200)
  })

  test('is answered at the same ticks as one that there is not, whatever it took to look for it', async () => {
    const shared = memory()
    const home = serve(scripted(), { backend: shared })
    const client = await openSession(home, { authInfo: alice })
    const backend = gated(shared)
    const elsewhere = serve(scripted(), { backend })
    const waits: number[] = []
    const after = vi.spyOn(Ticks.prototype, 'after').mockImplementation(async (start) => void waits.push(start))
    const knock = async (to: WireClient, ...sent: ('request' | 'notify' | 'GET' | 'DELETE')[]) => {
      for (const way of sent) {
        const answer =
          way === 'request'
            ? await to.request('ping', {}, bob)
            : way === 'notify'
              ? await to.notify('notifications/cancelled', { requestId: 1 }, bob)
              : await to.send({ method: way, ...bob })
        expect(answer.status).toBe(404)
      }
    }
    const all = ['request', 'notify', 'GET', 'DELETE'] as const
    await knock(client.at(home), ...all)
    await knock(client.at(elsewhere), ...all)
    await knock(new WireClient(elsewhere, crypto.randomUUID()), ...all)
    expect(waits).toHaveLength(12)
    after.mockRestore()
  })
})

describe('ticks', () => {
  test('what came of the time before one cannot be told by when it comes', async () => {
    const pass = fakeTime()
    vi.restoreAllMocks()
    const ticks = new Ticks(20)
    const start = performance.now()
    const due = (Math.floor(start / 20) + 2) * 20
    const at: number[] = []
    const wait = async () => {
      await ticks.after(start)
      at.push(performance.now())
    }
    const waiting = [wait()]
    for (const took of [0.5, 3, 7.7]) {
      await pass(took)
      waiting.push(wait())
    }
    for (let i = 0; i < 60; i++) await pass(1)
    await Promise.all(waiting)
    expect(new Set(at).size).toBe(1)
    expect((at[0] ?? 0) - due).toBeGreaterThanOrEqual(0)
    expect((at[0] ?? 0) - due).toBeLessThan(2)
  })
})
