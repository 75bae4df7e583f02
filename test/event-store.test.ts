/** The bridge to the SDKs' own transports: their streams resume, and one session's event ids mean nothing in another's. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport as TransportV1 } from '@modelcontextprotocol/sdk/shared/transport.js'
import { describe, expect, onTestFinished, test } from 'vitest'
import { memory } from '../src/backend/memory.js'
import { sqlite } from '../src/backend/sqlite.js'
import { type Backend, type JSONRPCMessage, toEventStore } from '../src/index.js'
import { K1, K2 } from './backend/sealed/keys.js'
import { buildServer as buildV1 } from './fixtures/server-v1.js'
import { buildServer as buildV2 } from './fixtures/server-v2.js'
import { connectClient, type TestClient } from './harness/client.js'
import { urlDoor } from './harness/door.js'
import { startProxy, type TestProxy } from './harness/proxy.js'
import { Recorder } from './harness/recorder.js'
import { SDKS, type Sdk } from './harness/server.js'
import { WireClient } from './harness/wire-client.js'
import { within } from './harness/within.js'
import { discard, scratch } from './services/children.js'

const note = (data: number | string): JSONRPCMessage => ({ jsonrpc: '2.0', method: 'note', params: { data } })

const BACKENDS: Record<string, () => Backend> = {
  memory: () => memory(),
  sqlite: () => {
    const folder = scratch()
    const backend = sqlite({ file: join(folder, 'events.db') })
    onTestFinished(async () => {
      await backend.close?.()
      discard(folder)
    })
    return backend
  },
  // what it lacks is kept in memory
  'a session store alone': () => ({ sessions: memory().sessions }),
}

type SdkTransport = StreamableHTTPServerTransport | NodeStreamableHTTPServerTransport

async function sessionOf(sdk: Sdk, backend: Backend, sessions: Map<string, SdkTransport>): Promise<SdkTransport> {
  const sessionId = randomUUID()
  const options = { sessionIdGenerator: () => sessionId, eventStore: toEventStore(backend, sessionId) }
  if (sdk === 'v1') {
    const transport = new StreamableHTTPServerTransport(options)
    sessions.set(sessionId, transport)
    // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
    await buildV1().connect(transport as TransportV1)
    return transport
  }
  const transport = new NodeStreamableHTTPServerTransport(options)
  sessions.set(sessionId, transport)
  await buildV2().connect(transport)
  return transport
}

/** The SDKs' example of a server with sessions, behind a proxy that can cut. */
async function serve(sdk: Sdk, backend: Backend): Promise<TestProxy> {
  const sessions = new Map<string, SdkTransport>()
  const server = createServer(async (req: IncomingMessage, res) => {
    const id = req.headers['mcp-session-id']
    const transport = typeof id === 'string' ? sessions.get(id) : await sessionOf(sdk, backend, sessions)
    if (transport) await transport.handleRequest(req, res)
    else res.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy = await startProxy([`http://127.0.0.1:${(server.address() as AddressInfo).port}`])
  onTestFinished(async () => {
    await proxy.close()
    for (const transport of sessions.values()) await transport.close()
    server.closeAllConnections()
    server.close()
  })
  return proxy
}

async function connected(sdk: Sdk, proxy: TestProxy): Promise<TestClient> {
  const client = await connectClient(sdk, `${proxy.url}/mcp`)
  onTestFinished(() => client.close())
  return client
}

function logged(client: TestClient, data: string) {
  return client.notifications.first(({ params }) => params?.data === data, `the log message ${data}`)
}

describe.each(Object.entries(BACKENDS))('on %s', (_, open) => {
  describe.each(SDKS)('the transport of %s', (serverSdk) => {
    test.each(SDKS)('a client of %s that is cut off during a call gets the rest, nothing twice', async (clientSdk) => {
      const proxy = await serve(serverSdk, open())
      const client = await connected(clientSdk, proxy)
      const seen = new Recorder<number>()
      const call = client.call('slow', { steps: 12, ms: 40 }, { onprogress: ({ progress }) => seen.add(progress) })
      for (const step of [2, 6]) {
        await seen.first((progress) => progress === step, `progress ${step}`)
        expect(proxy.cut()).toBeGreaterThan(0)
      }
      expect(await within(call, 'the result')).toBe('12 steps')
      expect(seen.all).toEqual(Array.from({ length: 12 }, (_, index) => index + 1))
      expect(client.wire.count('initialize')).toBe(1)
    })

    test.each(SDKS)('a client of %s misses nothing of its standalone stream', async (clientSdk) => {
      const proxy = await serve(serverSdk, open())
      const client = await connected(clientSdk, proxy)
      await client.call('log', { level: 'error', text: 'before' })
      await logged(client, 'before')
      const since = client.wire.answered.count
      proxy.cut(({ method }) => method === 'GET')
      await client.call('log', { level: 'error', text: 'meanwhile' })
      await client.wire.streamOpened(since)
      await client.call('log', { level: 'error', text: 'after' })
      await logged(client, 'after')
      expect(client.notifications.all.map(({ params }) => params?.data)).toEqual(['before', 'meanwhile', 'after'])
    })

    test('sessions that share a backend do not share event ids', async () => {
      const proxy = await serve(serverSdk, open())
      const [own, other] = [await connected(serverSdk, proxy), await connected(serverSdk, proxy)]
      await own.call('log', { level: 'error', text: 'secret' })
      await logged(own, 'secret')
      proxy.cut(({ method }) => method === 'GET')
      const { lastEventId } = await own.wire.sent.first(({ lastEventId }) => lastEventId !== undefined, 'a resumption')
      const thief = new WireClient(urlDoor(`${proxy.url}/mcp`), other.sessionId() ?? '')
      const response = await thief.get(lastEventId)
      expect(response.status).toBe(400)
      expect(await response.text()).not.toContain('secret')
    })
  })

  test('the standalone streams of two sessions, which the SDKs call the same, stay apart', async () => {
    const backend = open()
    const [a, b] = [toEventStore(backend, 'a'), toEventStore(backend, 'b')]
    const first = await a.storeEvent('_GET_stream', note('first'))
    await b.storeEvent('_GET_stream', note('of b'))
    await a.storeEvent('_GET_stream', note('second'))
    expect(await replayed(a, first)).toEqual(['second'])
    expect(await b.getStreamIdForEventId(first)).toBeUndefined()
    await expect(replayed(b, first)).rejects.toThrow('no stream of this session')
  })

  test('another process goes on with the same events, and gives out no id twice', async () => {
    const backend = open()
    const [before, after] = [toEventStore(backend, 's'), toEventStore(backend, 's')]
    const ids = [await before.storeEvent('x', note(1)), await before.storeEvent('x', note(2))]
    ids.push(await after.storeEvent('x', note(3)), await before.storeEvent('x', note(4)))
    expect(new Set(ids).size).toBe(4)
    expect(await replayed(after, ids[0] ?? '')).toEqual([2, 3, 4])
    expect(await after.getStreamIdForEventId(ids[3] ?? '')).toBe('x')
  })

  test('ids come in the order of the log, however many events are stored at once', async () => {
    const store = toEventStore(open(), 's')
    const start = await store.storeEvent('x', note('start'))
    const done: number[] = []
    const storing = Array.from({ length: 600 }, (_, index) =>
      store.storeEvent('x', note(index)).then(() => done.push(index)),
    )
    await Promise.all(storing)
    const inOrder = Array.from({ length: 600 }, (_, index) => index)
    expect(done).toEqual(inOrder)
    expect(await replayed(store, start)).toEqual(inOrder)
  })

  test.each(['', 'x', 'a.b.c', '....', `${'A'.repeat(12)}.x.1`, `x${'y'.repeat(100_000)}`])(
    'what is no event id is refused (%#)',
    async (id) => {
      const store = toEventStore(open(), 's')
      await store.storeEvent('x', note(1))
      expect(await store.getStreamIdForEventId(id)).toBeUndefined()
    },
  )
})

test('an event that only gives out an id is not replayed', async () => {
  const store = toEventStore(memory(), 's')
  const priming = await store.storeEvent('x', {} as JSONRPCMessage)
  await store.storeEvent('x', note(1))
  await store.storeEvent('x', {} as JSONRPCMessage)
  expect(await replayed(store, priming)).toEqual([1])
})

test('a stream that was lost and begins again gives out no id twice', async () => {
  const before = await toEventStore(memory(), 's').storeEvent('_GET_stream', note(1))
  const store = toEventStore(memory(), 's')
  // positions begin at the clock
  await new Promise((resolve) => setTimeout(resolve, 2))
  const after = await store.storeEvent('_GET_stream', note(2))
  expect(after).not.toBe(before)
  expect(await replayed(store, before)).toEqual([2])
})

test('what is not kept any more is refused; a standalone stream goes on from what is kept', async () => {
  const store = toEventStore(memory({ retention: { maxEvents: 2 } }), 's')
  for (const [stream, gone] of [
    ['x', undefined],
    ['_GET_stream', '_GET_stream'],
  ] as const) {
    const first = await store.storeEvent(stream, note(0))
    for (const data of [1, 2, 3]) await store.storeEvent(stream, note(data))
    expect(await store.getStreamIdForEventId(first)).toBe(gone)
    if (gone) expect(await replayed(store, first)).toEqual([2, 3])
  }
})

test('a backend that is away is an error, and the next event is stored when it is back', async () => {
  const backend = memory()
  let away = true
  const append: NonNullable<Backend['events']>['append'] = (...args) =>
    away ? Promise.reject(new Error('away')) : backend.events!.append(...args)
  const store = toEventStore({ ...backend, events: { ...backend.events!, append } }, 's')
  await expect(store.storeEvent('x', note(1))).rejects.toThrow('append failed')
  away = false
  expect(await store.getStreamIdForEventId(await store.storeEvent('x', note(2)))).toBe('x')
})

async function replayed(store: ReturnType<typeof toEventStore>, after: string): Promise<unknown[]> {
  const events: unknown[] = []
  await store.replayEventsAfter(after, {
    send: async (_, message) => {
      if ('method' in message) events.push(message.params?.data)
    },
  })
  return events
}

test('with encryption, events are sealed in the log, and without its key none is given', async () => {
  const backend = memory()
  const store = (key: string) => toEventStore(backend, 's', { encryption: { keys: [key] } })
  const first = await store(K1).storeEvent('stream', note('one'))
  await store(K1).storeEvent('stream', note('two'))
  const raw = await backend.events.read('s', 'stream', 0, 10)
  expect(JSON.stringify(raw)).not.toMatch(/one|two/)
  const sent: JSONRPCMessage[] = []
  const send = async (_: string, message: JSONRPCMessage) => void sent.push(message)
  await store(K1).replayEventsAfter(first, { send })
  expect(sent).toEqual([note('two')])
  for (const other of [store(K2), toEventStore(backend, 's')]) {
    await expect(other.replayEventsAfter(first, { send })).rejects.toThrow()
  }
  expect(sent).toHaveLength(1)
})
