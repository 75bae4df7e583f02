/** What the program around a node tells all sessions of the cluster. */
import { beforeAll, beforeEach, describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import type { Reply } from '../harness/reply.js'
import type { InitializeOptions, WireClient } from '../harness/wire-client.js'
import { until, within } from '../harness/within.js'
import { A, B, C, type Cluster, describeBackends, startCluster } from './cluster.js'

const WATCHED = 'test://watched-resource'
const TOOLS = 'notifications/tools/list_changed'
const UPDATED = 'notifications/resources/updated'

describeBackends((backend, name) => {
  let cluster: Cluster

  beforeEach(() => {
    onTestFailed(() => console.error(cluster.log))
  })

  /** A session with instances on some nodes and its stream on one. */
  async function session({ live, stream, uris = [], ...options }: SessionOptions): Promise<Listener> {
    const client = await cluster.open(options)
    // Deleted, so that no later test tells it anything.
    onTestFinished(async () => void (await client.on(cluster.at(A)).delete()))
    for (const uri of uris) {
      const answer = await client.request('resources/subscribe', { uri })
      expect(answer.status).toBe(200)
    }
    for (const node of live) await client.on(cluster.at(node)).request('ping')
    const events = stream === undefined ? undefined : await open(client, stream)
    return { client, events }
  }

  const open = (client: WireClient, node: number) => client.on(cluster.at(node)).get()

  /** The methods of all that comes on the stream before a log message that each of the nodes sends now. */
  async function heard({ client, events }: Listener): Promise<string[]> {
    if (!events) throw new Error('no stream')
    const marks = new Set([A, B, C].map((node) => `mark ${node} ${Math.random()}`))
    for (const [node, text] of [...marks].entries()) {
      const call = { name: 'log', arguments: { level: 'emergency', text } }
      await client.on(cluster.at(node)).request('tools/call', call)
    }
    const methods: string[] = []
    const read = async () => {
      while (marks.size > 0) {
        const event = await events.next()
        if (!event) throw new Error('the stream ended')
        const { method, params } = event.message
        if (!marks.delete(params?.data)) methods.push(params?.uri === undefined ? method : `${method} ${params.uri}`)
      }
    }
    await within(read(), 'the marks')
    return methods
  }

  async function expectHeard(listeners: Listener[], methods: string[]): Promise<void> {
    for (const listener of listeners) {
      expect(await heard(listener)).toEqual(methods)
      await listener.events?.leave()
    }
  }

  describe('with instances on several nodes', () => {
    beforeAll(async () => {
      const started = await startCluster({ sdk: name === 'SQLite' || name === 'Redis Cluster' ? 'v1' : 'v2', backend })
      cluster = started
      return () => started.stop()
    })

    test('a changed list is told to each session once, wherever it lives and listens', async () => {
      const listeners = [
        await session({ live: [A], stream: A }),
        await session({ live: [B], stream: C }),
        await session({ live: [A, B, C], stream: C }),
        await session({ live: [A, B, C], stream: B }),
      ]
      // Each node tells at the same time of a list of its own.
      await Promise.all([
        cluster.node(A).notifyList('tools'),
        cluster.node(B).notifyList('prompts'),
        cluster.node(C).notifyList('resources'),
      ])
      for (const listener of listeners) {
        expect((await heard(listener)).toSorted()).toEqual([
          'notifications/prompts/list_changed',
          'notifications/resources/list_changed',
          TOOLS,
        ])
        await listener.events?.leave()
      }
    })

    test('two changes are told twice', async () => {
      const listener = await session({ live: [A, B, C], stream: C })
      for (const node of cluster.nodes) await node.notifyList('tools')
      await expectHeard([listener], [TOOLS, TOOLS, TOOLS])
    })

    test('an updated resource is told to its subscribers alone, once', async () => {
      const subscribers = [
        await session({ live: [B], stream: B, uris: [WATCHED] }),
        await session({ live: [A, B, C], stream: C, uris: ['test://other', WATCHED] }),
      ]
      const others = [
        await session({ live: [A, B, C], stream: A }),
        await session({ live: [A, B], stream: C, uris: ['test://other'] }),
      ]
      const former = await session({ live: [A, B, C], stream: B, uris: [WATCHED] })
      await former.client.on(cluster.at(C)).request('resources/unsubscribe', { uri: WATCHED })
      await cluster.node(A).notify(WATCHED)
      await expectHeard(subscribers, [`${UPDATED} ${WATCHED}`])
      await expectHeard([...others, former], [])
    })

    test('a session without a stream is told when it opens one', async () => {
      const listener = await session({ live: [A, C], uris: [WATCHED] })
      await cluster.node(B).notify(WATCHED)
      await cluster.node(B).notifyList('tools')
      listener.events = await open(listener.client, B)
      await expectHeard([listener], [`${UPDATED} ${WATCHED}`, TOOLS])
    })

    test('a message to one session reaches it from any node, once, and nobody else', async () => {
      const listener = await session({ live: [A, B], stream: C })
      const other = await session({ live: [A, B], stream: C })
      for (const [index, node] of cluster.nodes.entries()) {
        expect(await node.notifySession(listener.client.sessionId, `from ${index}`)).toBe(true)
        const event = await (listener.events as Reply).next()
        expect(event?.message.params).toEqual({ level: 'info', data: `from ${index}` })
        expect(await node.notifySession('nobody', 'lost')).toBe(false)
      }
      await expectHeard([listener, other], [])
    })

    test('a session that was deleted hears nothing, and its stream ends', async () => {
      const { client, events } = await session({ live: [A, B], stream: C })
      await client.on(cluster.at(A)).delete()
      await cluster.node(B).notifyList('tools')
      expect(await (events as Reply).rest()).toEqual([])
    })
  })

  describe('with no instance anywhere', () => {
    beforeAll(async () => {
      const started = await startCluster({ sdk: 'v1', backend, amnesia: true })
      cluster = started
      return () => started.stop()
    })

    test('a session with an open stream is told, once, and of a resource only if it subscribed', async () => {
      const subscriber = await session({ live: [A, B, C], stream: C, uris: [WATCHED] })
      const other = await session({ live: [B], stream: B })
      // The GETs have restored instances; those go with the next exchange that ends on their node.
      for (const node of [B, C]) await other.client.on(cluster.at(node)).request('ping')
      const counts = async (of: 'liveSessions' | 'openStreams') =>
        (await Promise.all(cluster.nodes.map((node) => node.status()))).map((status) => status[of])
      await until(async () => (await counts('liveSessions')).join() === '0,0,0', 'no instance anywhere')
      expect(await counts('openStreams')).toEqual([0, 1, 1])
      await cluster.node(A).notify(WATCHED)
      await cluster.node(A).notifyList('tools')
      expect(await counts('liveSessions')).toEqual([0, 0, 0])
      expect((await heard(subscriber)).toSorted()).toEqual([`${UPDATED} ${WATCHED}`, TOOLS])
      expect(await heard(other)).toEqual([TOOLS])
      for (const { events } of [subscriber, other]) await events?.leave()
    })
  })
})

interface SessionOptions extends InitializeOptions {
  live: number[]
  stream?: number
  uris?: string[]
}

interface Listener {
  client: WireClient
  events: Reply | undefined
}
