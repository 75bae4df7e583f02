/** What clients and servers do, one at a time: each is set up first, and done when its costs are counted. */
import { expect } from 'vitest'
import type { Answer } from '../harness/reply.js'
import { quiet } from '../harness/time.js'
import { initialize, WireClient } from '../harness/wire-client.js'
import type { Scene } from './scene.js'

export interface Given {
  scene: Scene
  /** Nodes that hold the session, the first ones. */
  h: number
  /** Messages of the server. */
  k: number
  /** Sessions that are told something. */
  s: number
  /** Lets time pass. */
  pass(ms: number): Promise<void>
}

/** Resolves when all is set up, with what is to be counted. */
type Operation = (given: Given) => Promise<() => Promise<unknown>>

const accepted = async (answer: Promise<Answer>) => expect((await answer).status).toBe(202)
const ok = async (answer: Promise<Answer>) => expect((await answer).status).toBe(200)

export interface Row {
  act: Operation
  /** Nodes that it takes. Default 1. */
  nodes?: number
  /** It is looked at with several numbers of holders. */
  h?: true
  /** It is looked at with several numbers of messages. */
  k?: true
  /** It is looked at with several numbers of sessions that are told. */
  s?: true
  /** Some of it is done half a second later. */
  later?: true
}

/** A call that runs on the first node until the test answers it, and has become a stream. */
async function streaming({ scene, h }: Given) {
  const { client, server } = await scene.session(h)
  const opened = client.open({ id: 'call', method: 'tools/call', params: { name: 'slow' } })
  await server.got('tools/call')
  await server.say('begun', 'call')
  const stream = await opened
  await stream.next()
  return { client, server, stream }
}

/** A question of the server on the first node that its client has got. */
async function asked({ scene, h }: Given) {
  const { client, server } = await scene.session(h)
  const stream = await client.get()
  await server.ask(1, 'roots/list')
  const id = (await stream.next())?.message.id as string
  return { client, server, id }
}

const URI = 'test://broadcast'

/** A client that is to hear of a broadcast. */
async function following({ client }: { client: WireClient }): Promise<void> {
  await ok(client.request('resources/subscribe', { uri: URI }))
  expect((await client.get()).status).toBe(200)
}

/** By the words of docs/costs.md. */
export const OPERATIONS: Record<string, Row> = {
  '`initialize` and `notifications/initialized`': {
    act:
      async ({ scene }) =>
      async () => {
        const answer = await initialize(scene.node(0).handler)
        await accepted(new WireClient(scene.node(0).handler, answer.sessionId!).notify('notifications/initialized'))
      },
  },
  'a request, answered as JSON, where the session is live': {
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      return () => ok(client.request('ping'))
    },
  },
  'the same, when the session was not seen in the store for 2 s': {
    act: async ({ scene, pass }) => {
      const { client } = await scene.session()
      return async () => {
        await pass(1_500)
        await ok(client.request('ping'))
      }
    },
  },
  'a request, answered by a stream: k messages, one by one, and the answer': {
    k: true,
    act: async ({ scene, k }) => {
      const { client, server } = await scene.session()
      return async () => {
        const opened = client.open({ id: 1, method: 'tools/call', params: { name: 'slow' } })
        const { message } = await server.got('tools/call')
        for (let i = 0; i < k; i++) {
          await server.say(i, message.id)
          await (await opened).next()
        }
        await server.respond(message)
        expect(await (await opened).rest()).toHaveLength(1)
      }
    },
  },
  'a request, answered by a stream: k messages and the answer at once': {
    k: true,
    act: async ({ scene, k }) => {
      const { client, server } = await scene.session()
      return async () => {
        const opened = client.open({ id: 1, method: 'tools/call', params: { name: 'slow' } })
        const { message } = await server.got('tools/call')
        for (let i = 0; i < k; i++) void server.say(i, message.id)
        void server.respond(message)
        expect((await (await opened).rest()).length).toBe(k + 1)
      }
    },
  },
  'a restore: the first request at another node': {
    nodes: 2,
    act: async ({ scene }) => {
      const { client } = await scene.session()
      return () => ok(client.at(scene.node(1).handler).request('ping'))
    },
  },
  '`logging/setLevel`': {
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      return () => ok(client.request('logging/setLevel', { level: 'debug' }))
    },
  },
  '`resources/subscribe`, `resources/unsubscribe`': {
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      return () => ok(client.request('resources/subscribe', { uri: 'test://a' }))
    },
  },
  'a response to the server, at the node that asked': {
    h: true,
    act: async (given) => {
      const { client, id } = await asked(given)
      return () => accepted(client.respond(id, { roots: [] }))
    },
  },
  'a response, at another node that has the session live': {
    nodes: 2,
    act: async (given) => {
      const { client, id } = await asked({ ...given, h: 2 })
      return () => accepted(client.at(given.scene.node(1).handler).respond(id, { roots: [] }))
    },
  },
  'a response, at a node that has not': {
    nodes: 2,
    act: async (given) => {
      const { client, id } = await asked(given)
      return () => accepted(client.at(given.scene.node(1).handler).respond(id, { roots: [] }))
    },
  },
  '`cancelled`, where the request runs: its stream ends': {
    h: true,
    act: async (given) => {
      const { client } = await streaming(given)
      return () => accepted(client.notify('notifications/cancelled', { requestId: 'call' }))
    },
  },
  '`cancelled`, at a node that has the session live: too late, or the request runs elsewhere': {
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      return () => accepted(client.notify('notifications/cancelled', { requestId: 'late' }))
    },
  },
  '`cancelled`, at a node that has not': {
    nodes: 2,
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      const other = scene.nodes.at(-1)!.handler
      return () => accepted(client.at(other).notify('notifications/cancelled', { requestId: 'late' }))
    },
  },
  'any other notification of the client': {
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      return () => accepted(client.notify('notifications/roots/list_changed'))
    },
  },
  '`DELETE`': {
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      return () => ok(client.delete())
    },
  },
  '`GET`, the first one': {
    h: true,
    act: async ({ scene, h }) => {
      const { client } = await scene.session(h)
      return async () => expect((await client.get()).status).toBe(200)
    },
  },
  '`GET`, in place of a connection of the same node': {
    act: async ({ scene }) => {
      const { client } = await scene.session()
      await client.get()
      return async () => expect((await client.get()).status).toBe(200)
    },
  },
  '`GET`, in place of a connection of another node': {
    nodes: 2,
    act: async ({ scene }) => {
      const { client } = await scene.session(2)
      await client.get()
      return async () => expect((await client.at(scene.node(1).handler).get()).status).toBe(200)
    },
  },
  'a resume of a running request, at another node': {
    nodes: 2,
    act: async (given) => {
      const { client, stream } = await streaming({ ...given, h: 2 })
      return async () => {
        const resumed = await client.at(given.scene.node(1).handler).get(stream.lastEventId)
        expect(resumed.status).toBe(200)
      }
    },
  },
  'the answer to that, when it is there': {
    nodes: 2,
    act: async (given) => {
      const { client, server, stream } = await streaming({ ...given, h: 2 })
      const resumed = await client.at(given.scene.node(1).handler).get(stream.lastEventId)
      return async () => {
        await server.respond({ id: 'call' })
        expect(await resumed.rest()).toHaveLength(1)
      }
    },
  },
  'k messages on the standalone stream, one by one: its `GET` is on the same node': {
    k: true,
    act: async ({ scene, k }) => {
      const { client, server } = await scene.session()
      const stream = await client.get()
      return async () => {
        for (let i = 0; i < k; i++) {
          await server.say(i)
          await stream.next()
        }
      }
    },
    later: true,
  },
  'k messages on the standalone stream, one by one: its `GET` is on another node': {
    nodes: 2,
    k: true,
    act: async ({ scene, k }) => {
      const { client, server } = await scene.session(2)
      const stream = await client.at(scene.nodes.at(-1)!.handler).get()
      await quiet()
      return async () => {
        for (let i = 0; i < k; i++) {
          await server.say(i)
          await stream.next()
        }
      }
    },
    later: true,
  },
  'k messages on the standalone stream, one by one: there is no `GET`': {
    k: true,
    act: async ({ scene, k }) => {
      const { client, server } = await scene.session()
      await client.get().then((stream) => stream.leave())
      await quiet()
      return async () => {
        for (let i = 0; i < k; i++) {
          await server.say(i)
          await quiet()
        }
      }
    },
  },
  '`notify.session`': {
    act: async ({ scene }) => {
      const { client } = await scene.session()
      await client.get().then((stream) => stream.leave())
      const { handler } = scene.nodes.at(-1)!
      return () => handler.notify.session(client.sessionId, { method: 'notifications/message' })
    },
  },
  'a broadcast to s sessions, each with its `GET` at the node that holds it': {
    s: true,
    act: async ({ scene, s }) => {
      for (let i = 0; i < s; i++) await following(await scene.session(1, i % scene.nodes.length))
      return () => scene.node(0).handler.notify.resourceUpdated(URI)
    },
    later: true,
  },
  'a broadcast, where one node more holds each of the s sessions, too': {
    nodes: 2,
    s: true,
    act: async ({ scene, s }) => {
      const others = scene.nodes.length - 1
      for (let i = 0; i < s; i++) {
        const { client } = await scene.session(1, i % others)
        await client.at(scene.node(others).handler).request('ping')
        await following({ client })
      }
      return () => scene.node(0).handler.notify.resourceUpdated(URI)
    },
    later: true,
  },
}
