/** Stores that go backwards: a failover to a replica with lag, a backup. The node that knows more mends them. */
import { describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { DeletedSessions } from '../../src/cluster/deleted-sessions.js'
import { type Backend, type SessionRecord, type SessionStore, TOMBSTONE_TTL } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { type ScriptedFactory, scripted } from '../harness/scripted-server.js'
import { serve, sessionIds } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'

/** A store that a test can take back to what it was. */
function fallible() {
  let sessions = memory().sessions
  const store = new Proxy({} as SessionStore, {
    get: (_, name: keyof SessionStore) => (name in sessions ? Reflect.get(sessions, name).bind(sessions) : undefined),
  })
  return {
    store,
    /** Resolves with the way back to what the store has now. */
    async snapshot(): Promise<() => Promise<void>> {
      const records: SessionRecord[] = []
      for await (const record of sessions.list()) records.push(record)
      return async () => {
        sessions = memory().sessions
        for (const record of records) await sessions.create(record, 60_000)
      }
    },
  }
}

/** Two nodes on such a store, the bus between them cut unless it is given. */
async function nodes(bus?: Backend['bus']) {
  const { store, snapshot } = fallible()
  const onerror = vi.fn((_: Error) => {})
  const make = () => {
    const factory = scripted()
    const backend = gated({ ...memory(), sessions: store, bus: bus ?? memory().bus! })
    return { factory, backend, handler: serve(factory, { backend, onerror }) }
  }
  const [a, b] = [make(), make()]
  const onA = await openSession(a.handler)
  const onB = onA.at(b.handler)
  const journal = async () => (await store.load(onA.sessionId))?.record.journal
  const told = () => onerror.mock.calls.map(([error]) => error.message)
  return { a, b, onA, onB, store, snapshot, journal, told, id: onA.sessionId }
}

/** Time enough for a change to be told to a node that does not hear. */
async function meanwhile<T>(pass: (ms: number) => Promise<void>, request: Promise<T>): Promise<T> {
  await quiet()
  await pass(300)
  return request
}

const levels = (factory: ScriptedFactory) => factory.last.all('logging/setLevel').map(({ params }) => params?.level)

test('a store that lacks the last update is mended by the next change, and nothing is lost', async () => {
  const { onA, a, store, snapshot, journal, told, id } = await nodes()
  const goBack = await snapshot()
  await onA.request('logging/setLevel', { level: 'debug' })
  const before = await store.load(id)
  await goBack()
  a.backend.calls.reset()
  expect((await onA.request('resources/subscribe', { uri: 'test://a' })).body.result).toEqual({})
  expect(await journal()).toMatchObject({
    initialized: true,
    setLevel: { level: 'debug' },
    subscriptions: ['test://a'],
  })
  expect((await store.load(id))?.record.revision).toBeGreaterThan(before?.record.revision ?? 0)
  expect(a.backend.calls.count('sessions.update')).toBe(3)
  expect(told()).toEqual([expect.stringMatching(/gone backwards.* nothing is lost/)])
})

test('a store that lacks the last update is mended by a node that only looks', async () => {
  const pass = fakeTime()
  const { onA, snapshot, journal, told } = await nodes()
  const goBack = await snapshot()
  await onA.request('logging/setLevel', { level: 'debug' })
  await goBack()
  await pass(6000)
  expect((await onA.request('ping')).status).toBe(200)
  expect(await journal()).toMatchObject({ setLevel: { level: 'debug' } })
  expect(told()).toHaveLength(1)
  await pass(20_000)
  expect((await onA.request('ping')).status).toBe(200)
  expect(told()).toHaveLength(1)
})

test('a session whose `initialized` was lost is initialized for the next restore', async () => {
  const { onA, onB, b, store, journal, id } = await nodes()
  // What a replica had that missed `notifications/initialized`.
  const record = (await store.load(id))?.record as SessionRecord
  await store.update(
    { ...record, revision: 1, journal: { ...record.journal, initialized: false } },
    record.revision,
    60_000,
  )
  await onA.request('logging/setLevel', { level: 'debug' })
  expect(await journal()).toMatchObject({ initialized: true, setLevel: { level: 'debug' } })
  await onB.request('ping')
  expect(b.factory.last.methods).toEqual(['initialize', 'notifications/initialized', 'logging/setLevel', 'ping'])
})

test('another record of the same revision counts, was it written after the store went back; what is lost is told', async () => {
  const pass = fakeTime()
  const { a, onA, onB, snapshot, journal, told } = await nodes()
  const goBack = await snapshot()
  await onA.request('logging/setLevel', { level: 'error' })
  await goBack()
  await onB.request('logging/setLevel', { level: 'debug' })
  await pass(6000)
  expect((await onA.request('ping')).status).toBe(200)
  expect(levels(a.factory)).toEqual(['error', 'debug'])
  expect(await journal()).toMatchObject({ setLevel: { level: 'debug' } })
  expect(told()).toEqual([expect.stringMatching(/gone backwards.* is lost/)])
})

test('a later record of a node that restored from the past counts, and `initialized` is not taken back', async () => {
  const pass = fakeTime()
  const { a, onA, onB, store, journal, id } = await nodes()
  const record = (await store.load(id))?.record as SessionRecord
  await store.update(
    { ...record, revision: 1, journal: { ...record.journal, initialized: false } },
    record.revision,
    60_000,
  )
  for (const level of ['error', 'info', 'debug']) await meanwhile(pass, onB.request('logging/setLevel', { level }))
  await pass(6000)
  expect((await onA.request('ping')).status).toBe(200)
  expect(levels(a.factory)).toEqual(['debug'])
  expect(await journal()).toMatchObject({ initialized: true, setLevel: { level: 'debug' } })
})

describe('two nodes that went on from the old record, each without knowing of the other', () => {
  /** A wrote `error`, which was lost, and then B `info`. */
  async function forked() {
    const pass = fakeTime()
    const all = await nodes()
    const goBack = await all.snapshot()
    await pass(1)
    await all.onA.request('logging/setLevel', { level: 'error' })
    await goBack()
    await pass(1)
    await meanwhile(pass, all.onB.request('logging/setLevel', { level: 'info' }))
    return { ...all, pass }
  }

  test('the one that changes the session next does not overwrite the later record, and tells what is lost', async () => {
    const { a, onA, pass, journal, told } = await forked()
    const subscribed = onA.request('resources/subscribe', { uri: 'test://a' })
    expect((await meanwhile(pass, subscribed)).status).toBe(200)
    expect(await journal()).toMatchObject({ setLevel: { level: 'info' }, subscriptions: ['test://a'] })
    expect(levels(a.factory)).toEqual(['error', 'info'])
    expect(told()).toEqual([expect.stringMatching(/neither knew of the other; .* is lost/)])
  })

  test('the one that looks some changes later tells what is lost, too', async () => {
    const { a, onA, onB, pass, journal, told } = await forked()
    for (const level of ['notice', 'warning', 'debug'])
      await meanwhile(pass, onB.request('logging/setLevel', { level }))
    await pass(6000)
    expect((await onA.request('ping')).status).toBe(200)
    expect(await journal()).toMatchObject({ setLevel: { level: 'debug' } })
    expect(levels(a.factory)).toEqual(['error', 'debug'])
    expect(told()).toHaveLength(1)
    await pass(20_000)
    expect(told()).toHaveLength(1)
  })

  test('a node that was merely behind, however far, tells nothing', async () => {
    const pass = fakeTime()
    const { onA, onB, told } = await nodes()
    await onA.request('ping')
    for (let i = 0; i < 20; i++) {
      await pass(1)
      await meanwhile(pass, onB.request('logging/setLevel', { level: i % 2 === 0 ? 'info' : 'debug' }))
    }
    await meanwhile(pass, onA.request('resources/subscribe', { uri: 'test://a' }))
    expect(told()).toEqual([])
  })
})

test('two nodes that know the same mend the store once, and go on', async () => {
  const pass = fakeTime()
  const { onA, onB, store, snapshot, journal, told, id } = await nodes(memory().bus)
  const goBack = await snapshot()
  await onB.request('ping')
  await onA.request('logging/setLevel', { level: 'debug' })
  const known = (await store.load(id))?.record.revision ?? 0
  await goBack()
  await pass(6000)
  await Promise.all([onA.request('ping'), onB.request('ping')])
  await quiet()
  expect(await journal()).toMatchObject({ setLevel: { level: 'debug' } })
  expect((await store.load(id))?.record.ancestors?.at(-1)).toBe(known)
  expect(told()).toHaveLength(1)
})

test('a store that refuses every update is 503 after a bounded number of attempts', async () => {
  const { a, onA, told } = await nodes()
  const accept = a.backend.calls.replace('sessions.update', async () => false)
  a.backend.calls.reset()
  expect((await onA.request('logging/setLevel', { level: 'debug' })).status).toBe(503)
  expect(a.backend.calls.count('sessions')).toBeLessThanOrEqual(102)
  expect(told()).toContainEqual(expect.stringContaining('could not be stored'))
  accept()
  expect((await onA.request('logging/setLevel', { level: 'debug' })).body.result).toEqual({})
})

describe('a deleted session that is in the store again', () => {
  test.each([
    ['deleted it', 'a'],
    ['heard of it', 'b'],
  ] as const)('is 404 on the node that %s, and deleted again', async (_, which) => {
    const all = await nodes(memory().bus)
    const { onA, onB, store, snapshot, told, id } = all
    await onB.request('ping')
    const goBack = await snapshot()
    expect((await onA.delete()).status).toBe(200)
    await goBack()
    expect(await store.load(id)).toBeDefined()
    const client = which === 'a' ? onA : onB
    expect((await client.request('ping')).status).toBe(404)
    expect((await client.get()).status).toBe(404)
    expect((await client.delete()).status).toBe(404)
    expect(await store.load(id)).toBeUndefined()
    expect(told()).toEqual([expect.stringContaining('deleted session was there again')])
  })

  test('is 404 also while the store refuses to delete it, and not listed', async () => {
    const { a, onA, store, snapshot, id } = await nodes()
    const goBack = await snapshot()
    await onA.delete()
    await goBack()
    const recover = a.backend.calls.fail('sessions.delete')
    expect(await sessionIds(a.handler)).toEqual([])
    expect((await onA.request('ping')).status).toBe(404)
    expect(await store.load(id)).toBeDefined()
    recover()
    expect((await onA.request('ping')).status).toBe(404)
    expect(await store.load(id)).toBeUndefined()
  })

  test('is not remembered longer than the store refuses its id', async () => {
    const pass = fakeTime()
    const { onA, snapshot } = await nodes()
    const goBack = await snapshot()
    await onA.delete()
    await pass(TOMBSTONE_TTL + 1)
    await goBack()
    expect((await onA.request('ping')).status).toBe(200)
  })
})

test('a node remembers a bounded number of deleted sessions, the newest', () => {
  const deleted = new DeletedSessions()
  for (let i = 0; i < 10_001; i++) deleted.add(`${i}`)
  expect([deleted.has('0'), deleted.has('1'), deleted.has('10000')]).toEqual([false, true, true])
})
