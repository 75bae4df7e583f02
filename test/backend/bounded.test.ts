import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Backend, SessionRecord } from '../../src/backend/backend.js'
import { bounded, Unavailable } from '../../src/backend/bounded.js'
import { memory } from '../../src/backend/memory.js'
import { Late } from '../../src/util/within.js'
import { record } from './record.js'

const LIMIT = 1000

let errors: Error[]
beforeEach(() => {
  errors = []
  vi.useFakeTimers()
})
afterEach(() => void vi.useRealTimers())

const limited = (backend: Backend) => bounded(backend, LIMIT, (error) => errors.push(error))

/** A backend whose store lists this. */
function listing(list: () => AsyncIterable<SessionRecord>): Backend {
  return { sessions: { ...memory().sessions, list } }
}

/** Records as a later version of this library may write them. */
const newer = (id: string) => ({ ...record(id), version: 2 }) as unknown as SessionRecord

const never = () => new Promise<never>(() => {})
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

async function idsOf(list: AsyncIterable<SessionRecord>): Promise<string[]> {
  const ids: string[] = []
  for await (const { id } of list) ids.push(id)
  return ids
}

/** What a promise comes to, for an `expect` after time has passed. */
async function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.catch((error: unknown) => error)
}

test.each<[string, Backend, (backend: ReturnType<typeof limited>) => Promise<unknown>]>([
  ['load', { sessions: { ...memory().sessions, load: never } }, ({ sessions }) => sessions.load('a')],
  ['read', { ...memory(), events: { ...memory().events, read: never } }, ({ events }) => events.read('a', 's', 0, 1)],
  ['publish', { ...memory(), bus: { ...memory().bus, publish: never } }, ({ bus }) => bus.publish('t', 'm')],
  ['ping', { ...memory(), ping: never }, (backend) => backend.ping()],
  ['close', { ...memory(), close: never }, (backend) => backend.close()],
])(
  'an answer of %s that does not come in time is Unavailable, with the reason as its cause, and reported',
  async (method, backend, ask) => {
    const answer = outcome(ask(limited(backend)))
    await pass(LIMIT)
    const error = await answer
    expect(error).toBeInstanceOf(Unavailable)
    expect(error).toMatchObject({ message: `backend: ${method} failed`, cause: expect.any(Late) })
    expect(errors).toEqual([error])
  },
)

test('a subscription that is made too late is ended', async () => {
  const { bus } = memory()
  const unsubscribe = vi.fn(async () => {})
  const subscribe = () =>
    new Promise<typeof unsubscribe>((resolve) => setTimeout(() => resolve(unsubscribe), 2 * LIMIT))
  const subscribed = outcome(limited({ ...memory(), bus: { ...bus, subscribe } }).bus.subscribe('t', () => {}))
  await pass(LIMIT)
  expect(await subscribed).toBeInstanceOf(Unavailable)
  expect(unsubscribe).not.toHaveBeenCalled()
  await pass(LIMIT)
  expect(unsubscribe).toHaveBeenCalledOnce()
})

test('a method that throws at once is Unavailable like one that rejects', async () => {
  const cause = new Error('not connected')
  const load = () => {
    throw cause
  }
  const answer = limited({ sessions: { ...memory().sessions, load } }).sessions.load('a')
  await expect(answer).rejects.toMatchObject({ name: 'Unavailable', cause })
})

test('a record that a later version wrote is Unreadable, not undefined: its session is there', async () => {
  const sessions = { ...memory().sessions, load: async () => ({ record: newer('a') }) }
  await expect(limited({ sessions }).sessions.load('a')).rejects.toMatchObject({
    name: 'Unreadable',
    message: 'the record is of version 2, which is not known here',
  })
})

test('a listing gives all records, and leaves no timer behind', async () => {
  const { sessions } = limited(
    listing(async function* () {
      yield record('a')
      yield record('b')
    }),
  )
  expect(await idsOf(sessions.list())).toEqual(['a', 'b'])
  expect(vi.getTimerCount()).toBe(0)
})

test('a listing whose next record does not come in time ends as Unavailable', async () => {
  const { sessions } = limited(
    listing(async function* () {
      yield record('a')
      await never()
    }),
  )
  const ids: string[] = []
  const end = outcome(
    (async () => {
      for await (const { id } of sessions.list()) ids.push(id)
    })(),
  )
  await pass(LIMIT)
  expect(await end).toMatchObject({ name: 'Unavailable', message: 'backend: list failed', cause: expect.any(Late) })
  expect(ids).toEqual(['a'])
  expect(errors).toHaveLength(1)
})

test.each<[string, () => AsyncIterable<SessionRecord>]>([
  [
    'a listing that fails',
    async function* () {
      yield record('a')
      throw new Error('away')
    },
  ],
  [
    'a listing that cannot begin',
    () => {
      throw new Error('away')
    },
  ],
])('%s ends as Unavailable, with the reason as its cause', async (_, list) => {
  const { sessions } = limited(listing(list))
  await expect(idsOf(sessions.list())).rejects.toMatchObject({ name: 'Unavailable', cause: new Error('away') })
  expect(errors).toHaveLength(1)
})

test('a listing may be read as slowly as its consumer likes', async () => {
  const { sessions } = limited(
    listing(async function* () {
      for (const id of ['a', 'b', 'c']) yield record(id)
    }),
  )
  const ids: string[] = []
  const end = (async () => {
    for await (const { id } of sessions.list()) {
      ids.push(id)
      await new Promise((resolve) => setTimeout(resolve, 5 * LIMIT))
    }
  })()
  await pass(20 * LIMIT)
  await end
  expect(ids).toEqual(['a', 'b', 'c'])
  expect(errors).toEqual([])
})

test('a listing skips records of another version, goes on, and reports how many they were', async () => {
  const { sessions } = limited(
    listing(async function* () {
      yield newer('b')
      yield record('c')
      yield newer('d')
    }),
  )
  expect(await idsOf(sessions.list())).toEqual(['c'])
  expect(errors).toMatchObject([
    {
      message: 'backend: list skipped 2 session records',
      cause: expect.objectContaining({ message: 'the record is of version 2, which is not known here' }),
    },
  ])
})

test('a listing that is left early lets the store clean up', async () => {
  let cleanedUp = false
  const { sessions } = limited(
    listing(async function* () {
      try {
        for (let id = 0; ; id++) yield record(`${id}`)
      } finally {
        cleanedUp = true
      }
    }),
  )
  for await (const { id } of sessions.list()) if (id === '1') break
  expect(cleanedUp).toBe(true)
  expect(errors).toEqual([])
})

test('a listing that is left early does not wait longer than the limit for the store, and is no failure', async () => {
  const { sessions } = limited(
    listing(() => ({
      [Symbol.asyncIterator]: () => ({ next: async () => ({ value: record('a') }), return: never }),
    })),
  )
  const end = (async () => {
    for await (const _ of sessions.list()) break
  })()
  await pass(LIMIT)
  await end
  expect(errors).toMatchObject([{ message: 'backend: list failed', cause: expect.any(Late) }])
})
