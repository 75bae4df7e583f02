/** The log of a standalone stream goes backwards, and gives out positions again: what is stored there since comes all the same. */
import { expect, test, vi } from 'vitest'
import type { EventLog, MessageBus } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { gated } from '../harness/gated-backend.js'
import type { Reply } from '../harness/reply.js'
import { type ScriptedFactory, scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'

const STREAM = 'standalone'

/** A log that a test can take back to what it was. */
function fallible() {
  let events = memory().events!
  const log = new Proxy({} as EventLog, {
    // A call that was held up goes to the log as it is by then.
    get: (_, name: keyof EventLog) => {
      if (typeof events[name] !== 'function') return events[name]
      return (...args: unknown[]) => (events[name] as (...args: unknown[]) => unknown)(...args)
    },
  })
  return {
    log,
    /** Resolves with the way back to what the log has now. */
    async snapshot(session: string): Promise<() => Promise<void>> {
      const { head, first, last, reader, sent, events: kept } = (await log.read(session, STREAM, 0, 100_000))!
      return async () => {
        events = memory().events!
        await events.open(session, STREAM, { head, base: first - 1 })
        if (reader !== undefined) await events.attach(session, STREAM, reader)
        if (sent !== undefined) await events.sent(session, STREAM, sent)
        if (kept.length > 0) await events.append(session, STREAM, { id: 'kept', events: kept.map(({ data }) => data) })
        expect((await events.look([{ session, stream: STREAM }]))[0]?.last).toBe(last)
      }
    },
  }
}

/** The news of events, which a test may lose or repeat. */
function news(bus: MessageBus) {
  const told: [string, string][] = []
  const control = {
    lost: false,
    /** All of them once more. */
    async repeat() {
      for (const [topic, message] of told) await bus.publish(topic, message)
      await quiet()
    },
    bus: {
      ...bus,
      publish: async (topic, message) => {
        const isNews = message.includes('"first":')
        if (isNews) told.push([topic, message])
        if (!isNews || !control.lost) await bus.publish(topic, message)
      },
    } satisfies MessageBus,
  }
  return control
}

/** Two nodes on such a log, and a client that follows its standalone stream on A. */
async function nodes() {
  const pass = fakeTime()
  const { log, snapshot } = fallible()
  const shared = memory()
  const bell = news(shared.bus!)
  const onerror = vi.fn((_: Error) => {})
  const make = () => {
    const factory = scripted()
    const backend = gated({ ...shared, events: log, bus: bell.bus })
    return { factory, backend, handler: serve(factory, { backend, onerror, keepAlive: 0 }) }
  }
  const [a, b] = [make(), make()]
  const client = await openSession(a.handler)
  const id = client.sessionId
  // An instance on B, which writes there.
  await client.at(b.handler).request('ping')
  const got: unknown[] = []
  let lastEventId: string | undefined
  const follow = (reply: Reply) => {
    const read = async () => {
      for (let block = await reply.block(); block; block = await reply.block()) {
        lastEventId = block.id ?? lastEventId
        const { message } = block
        if (message) got.push(message.error ? message.error.data.reason : message.params.data)
      }
    }
    // It breaks off when the nodes close.
    read().catch(() => {})
    return quiet()
  }
  const connection = await client.get()
  await follow(connection)
  return {
    ...{ a, b, connection, got, pass, news: bell },
    /** A notification that is sent by a node's own server. */
    async say(node: { factory: ScriptedFactory }, ...data: unknown[]) {
      for (const each of data) await node.factory.last.say(each)
      await quiet()
    },
    back: () => snapshot(id),
    async comeBack(node = a, cursor: string | null | undefined = lastEventId) {
      const reply = await client.at(node.handler).get(cursor ?? undefined)
      await follow(reply)
      return reply
    },
    cursor: () => lastEventId,
    told: () => onerror.mock.calls.map(([error]) => error.message),
  }
}

const BACKWARDS = expect.stringMatching(/went backwards/)
type Nodes = Awaited<ReturnType<typeof nodes>>

/** Says so many on A, of which the log loses the last ones. */
async function lose({ say, back, a, pass }: Nodes, kept: number, lost: number) {
  for (let n = 1; n <= kept; n++) await say(a, `kept ${n}`)
  const goBack = await back()
  for (let n = 1; n <= lost; n++) await say(a, `lost ${n}`)
  // How far was sent is in the log, too.
  await pass(600)
  await goBack()
}

const before = (kept: number, lost: number) => [
  ...Array.from({ length: kept }, (_, n) => `kept ${n + 1}`),
  ...Array.from({ length: lost }, (_, n) => `lost ${n + 1}`),
]

const NEW = ['new 1', 'new 2', 'new 3', 'new 4', 'new 5']

test.each([
  ['by one', 2, 1],
  ['by two', 2, 2],
  ['by many', 2, 200],
  ['to where it began', 0, 2],
])('rolled back %s: what another node stores comes, with the positions of the log', async (_, kept, lost) => {
  const on = await nodes()
  await lose(on, kept, lost)
  await on.say(on.b, ...NEW)
  expect(on.got).toEqual([...before(kept, lost), ...NEW])
  expect(on.told()).toEqual([BACKWARDS])
  // And once more from where the client is by its own cursor.
  await on.connection.leave()
  await on.comeBack(on.b)
  await on.say(on.a, 'last')
  expect(on.got).toEqual([...before(kept, lost), ...NEW, 'last'])
  expect(on.told()).toHaveLength(1)
})

test('what the node with the connection stores comes', async () => {
  const on = await nodes()
  await lose(on, 2, 2)
  await on.say(on.a, ...NEW)
  expect(on.got).toEqual([...before(2, 2), ...NEW])
  expect(on.told()).toEqual([BACKWARDS])
})

test('what both nodes store by turns comes', async () => {
  const on = await nodes()
  await lose(on, 2, 3)
  for (const [index, data] of NEW.entries()) await on.say(index % 2 ? on.a : on.b, data)
  expect(on.got).toEqual([...before(2, 3), ...NEW])
  expect(on.told()).toEqual([BACKWARDS])
})

test('what a writer that was busy all the while stores drops nothing that others have stored', async () => {
  const on = await nodes()
  await on.say(on.b, 'kept 1')
  const goBack = await on.back()
  await on.say(on.b, 'lost 1', 'lost 2')
  // The next one is on its way to the log while the log goes back, and a node that knows of nothing comes before it.
  const append = on.b.backend.calls.hold('events.append')
  void on.b.factory.last.say('busy')
  await append.reached
  void on.b.factory.last.say('busy, too')
  await goBack()
  await on.say(on.a, 'new')
  append.open()
  await quiet()
  await on.pass(5000)
  expect(on.got).toEqual(['kept 1', 'lost 1', 'lost 2', 'new', 'busy', 'busy, too'])
  expect(on.told()).toEqual([BACKWARDS])
})

test('notifications that read the same come as often as they were stored', async () => {
  const on = await nodes()
  const goBack = await on.back()
  await on.say(on.a, 'same', 'same')
  await goBack()
  await on.say(on.b, 'same', 'same', 'same')
  expect(on.got).toEqual(Array(5).fill('same'))
  expect(on.told()).toEqual([BACKWARDS])
})

test.each([1, 2, 3, 5])(
  'news that were lost: %i new ones in the place of three are found by looking',
  async (count) => {
    const on = await nodes()
    await lose(on, 2, 3)
    on.news.lost = true
    await on.say(on.b, ...NEW.slice(0, count))
    await on.pass(24_000)
    expect(on.got).toEqual([...before(2, 3), ...NEW.slice(0, count)])
    expect(on.told()).toEqual([BACKWARDS])
    on.news.lost = false
    await on.say(on.b, 'last')
    expect(on.got.at(-1)).toBe('last')
  },
)

test('nothing new: the log that went back is noticed by looking, and told once', async () => {
  const on = await nodes()
  await lose(on, 2, 3)
  await on.pass(60_000)
  expect(on.told()).toEqual([BACKWARDS])
  await on.say(on.b, ...NEW)
  expect(on.got).toEqual([...before(2, 3), ...NEW])
})

test('news that come twice, and late, send nothing twice', async () => {
  const on = await nodes()
  await on.say(on.b, 'kept 1')
  const goBack = await on.back()
  await on.say(on.b, 'lost 1', 'lost 2')
  await on.news.repeat()
  await goBack()
  await on.news.repeat()
  await on.say(on.b, 'new 1')
  await on.news.repeat()
  await on.say(on.b, 'new 2', 'new 3')
  await on.news.repeat()
  await on.pass(24_000)
  expect(on.got).toEqual(['kept 1', 'lost 1', 'lost 2', 'new 1', 'new 2', 'new 3'])
  expect(on.told()).toEqual([BACKWARDS])
})

test('news that come late, of what the log has lost, are no reason to leave out what it stored since', async () => {
  const on = await nodes()
  await on.say(on.b, 'kept 1')
  const goBack = await on.back()
  on.news.lost = true
  await on.say(on.b, 'late 1', 'late 2')
  on.news.lost = false
  await goBack()
  await on.news.repeat()
  await on.say(on.b, 'new 1', 'new 2', 'new 3')
  expect(on.got).toEqual(['kept 1', 'late 1', 'late 2', 'new 1', 'new 2', 'new 3'])
  expect(on.told()).toEqual([BACKWARDS])
})

test('events too big to travel with their news', async () => {
  const on = await nodes()
  await lose(on, 1, 1)
  const big = 'x'.repeat(5000)
  await on.say(on.b, big)
  expect(on.got).toEqual(['kept 1', 'lost 1', big])
  expect(on.told()).toEqual([BACKWARDS])
})

test('further back than the node remembers: the client is told, and goes on from what the log has', async () => {
  const on = await nodes()
  await lose(on, 2, 300)
  for (const data of NEW) await on.say(on.b, data)
  expect(on.got).toEqual([...before(2, 300), 'messages-lost', ...NEW.slice(1)])
  expect(on.told()).toEqual([BACKWARDS])
  await on.connection.leave()
  await on.comeBack()
  await on.say(on.b, 'last')
  expect(on.got.slice(-2)).toEqual(['new 5', 'last'])
  expect(on.told()).toHaveLength(1)
})

test('a client that comes back with a cursor beyond the log is told, and goes on from what the log has', async () => {
  const on = await nodes()
  await on.say(on.a, 'kept 1')
  const goBack = await on.back()
  await on.say(on.a, 'lost 1', 'lost 2')
  await on.connection.leave()
  await goBack()
  await on.comeBack(on.b)
  await on.say(on.a, ...NEW)
  expect(on.got).toEqual(['kept 1', 'lost 1', 'lost 2', 'messages-lost', ...NEW])
  expect(on.told()).toEqual([BACKWARDS])
})

test.each([3, 5])(
  'a client that comes back for a log with %i others in the place of two is told, and goes on',
  async (count) => {
    const on = await nodes()
    await on.say(on.a, 'kept 1')
    const goBack = await on.back()
    await on.say(on.a, 'lost 1', 'lost 2')
    await on.connection.leave()
    await goBack()
    await on.say(on.b, ...NEW.slice(0, count))
    await on.comeBack(on.b)
    expect(on.got).toEqual(['kept 1', 'lost 1', 'lost 2', 'messages-lost', ...NEW.slice(1, count)])
    expect(on.told()).toEqual([BACKWARDS])
  },
)

test('a client that comes back without a cursor goes on where the log ends, which is behind what was sent, and is told', async () => {
  const on = await nodes()
  await on.say(on.a, 'kept 1', 'kept 2')
  const goBack = await on.back()
  await on.say(on.a, 'lost 1', 'lost 2')
  await on.connection.leave()
  await goBack()
  await on.comeBack(on.a, null)
  await on.say(on.b, ...NEW)
  expect(on.got).toEqual(['kept 1', 'kept 2', 'lost 1', 'lost 2', 'messages-lost', ...NEW])
  expect(on.told()).toEqual([BACKWARDS])
})

test('a client that comes back again and again to a log that stays is told nothing, and gets each once', async () => {
  const on = await nodes()
  let connection = on.connection
  for (let n = 1; n <= 10; n++) {
    await on.say(n % 2 ? on.a : on.b, n)
    await connection.leave()
    connection = await on.comeBack(n % 3 ? on.a : on.b, n % 4 ? on.cursor() : null)
  }
  expect(on.got).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  expect(on.told()).toEqual([])
})
