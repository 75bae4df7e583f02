/** Whoever knows the id of somebody else's session: every way in, on the node that has it live and on one that has not. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import type { Session } from '../../src/index.js'
import { createSessionHandler, type SessionHandler } from '../../src/index.js'
import { describeBackends, type Place } from '../harness/backends.js'
import { authOf, type Sent } from '../harness/door.js'
import { type ScriptedFactory, scripted } from '../harness/scripted-server.js'
import { initialize, openSession, WireClient } from '../harness/wire-client.js'

const ALICE = authOf('app', 'alice')
const MALLORY = authOf('app', 'mallory')

/** What Mallory sends with Alice's session id. `eventId`: of an event that Alice got; `asked`: the id of what her server asks her. */
const THEFTS: Record<string, (stolen: { eventId: string; asked: string | number }) => Sent> = {
  'a call': () => ({ body: { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'ask' } } }),
  'a list': () => ({ body: { jsonrpc: '2.0', id: 1, method: 'tools/list' } }),
  'a subscription': () => ({ body: { jsonrpc: '2.0', id: 1, method: 'resources/subscribe', params: { uri: 'x:y' } } }),
  'a notification': () => ({ body: { jsonrpc: '2.0', method: 'notifications/roots/list_changed' } }),
  'the cancellation of a call': () => ({
    body: { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'call' } },
  }),
  'the answer to an elicitation': ({ asked }) => ({
    body: { jsonrpc: '2.0', id: asked, result: { action: 'accept', content: { pay: true } } },
  }),
  'an error in answer to an elicitation': ({ asked }) => ({
    body: { jsonrpc: '2.0', id: asked, error: { code: -1, message: 'no' } },
  }),
  'progress of an elicitation': ({ asked }) => ({
    body: { jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: asked, progress: 1 } },
  }),
  'a GET': () => ({ method: 'GET', headers: { accept: 'text/event-stream' } }),
  'a resume': ({ eventId }) => ({ method: 'GET', headers: { accept: 'text/event-stream', 'last-event-id': eventId } }),
  'a DELETE': () => ({ method: 'DELETE' }),
}

describeBackends((open) => {
  let place: Place
  let nodes: [SessionHandler, SessionHandler]
  let factories: [ScriptedFactory, ScriptedFactory]

  beforeEach(() => {
    place = open()
    const factory = () =>
      scripted({
        'tools/call': async (message, server) => {
          await server.say('working', message.id)
          await server.ask('question', 'elicitation/create', { message: 'Pay?' }, message.id)
          const { message: answer } = await server.answer('question')
          return { content: [], answer: 'result' in answer ? answer.result : answer }
        },
      })
    factories = [factory(), factory()]
    nodes = [
      createSessionHandler(factories[0], { backend: place.backends[0] }),
      createSessionHandler(factories[1], { backend: place.backends[1] }),
    ]
  })

  afterEach(async () => {
    await Promise.all(nodes.map((node) => node.close()))
    await place.close()
  })

  /** Alice, in a call that has asked her something. */
  async function inCall() {
    const [home] = nodes
    const alice = await openSession(home, { authInfo: ALICE, capabilities: { elicitation: {} } })
    const call = await alice.open({ id: 'call', method: 'tools/call', params: { name: 'ask' } })
    await call.next()
    const asked = (await call.next())?.message
    return { alice, call, stolen: { eventId: call.lastEventId ?? '', asked: (asked as { id: string }).id } }
  }

  test.each(['the node that has it live', 'another node'])(
    'on %s each way in is answered as if there were no such session, and its owner notices nothing',
    async (where) => {
      const { alice, call, stolen } = await inCall()
      const node = where === 'another node' ? nodes[1] : nodes[0]
      const before = factories[0].received.count
      for (const [what, theft] of Object.entries(THEFTS)) {
        for (const authInfo of [MALLORY, undefined]) {
          const thief = new WireClient(node, alice.sessionId, undefined, { authInfo })
          const nobody = new WireClient(node, randomUUID(), undefined, { authInfo })
          const answer = await thief.send(theft(stolen))
          expect(answer, what).toMatchObject({ status: 404, body: { error: { code: -32001 } } })
          expect(answer.headers, what).not.toHaveProperty('mcp-session-id')
          const unknown = await nobody.send(theft(stolen))
          expect([answer.status, answer.text, answer.headers], what).toEqual([
            unknown.status,
            unknown.text,
            unknown.headers,
          ])
        }
      }
      expect(factories[0].received.count).toBe(before)
      expect(factories[1].servers).toHaveLength(0)
      expect((await alice.respond(stolen.asked, { action: 'decline' })).status).toBe(202)
      const [answered] = await call.rest()
      expect(answered?.message).toMatchObject({ id: 'call', result: { answer: { action: 'decline' } } })
    },
  )

  test('an initialize with the stolen id begins a session of the thief’s own', async () => {
    const { alice } = await inCall()
    const answer = await initialize(nodes[1], { authInfo: MALLORY, headers: { 'mcp-session-id': alice.sessionId } })
    expect(answer.status).toBe(200)
    expect(answer.sessionId).not.toBe(alice.sessionId)
    expect((await alice.request('tools/list')).status).toBe(200)
  })

  test('with a session of her own, Mallory gets nothing of another one: no stream, no question, no call', async () => {
    const { alice, call, stolen } = await inCall()
    const mallory = await openSession(nodes[1], { authInfo: MALLORY })
    for (const node of nodes) {
      mallory.on(node)
      expect((await mallory.get(stolen.eventId)).status).toBe(400)
      expect((await mallory.respond(stolen.asked, { action: 'accept' })).status).toBe(400)
      expect((await mallory.notify('notifications/cancelled', { requestId: 'call' })).status).toBe(202)
    }
    // The tag of an event id is all that she could make: her own, with the name of Alice's stream.
    const own = await mallory.open({ id: 'mine', method: 'tools/call', params: {} })
    await own.next()
    const tag = String(own.lastEventId).split('.')[0]
    const forged = `${tag}.${stolen.eventId.split('.').slice(1).join('.')}`
    for (const node of nodes) {
      const answer = await mallory.on(node).get(forged)
      expect(answer.status).toBe(400)
    }
    await own.leave()
    expect((await alice.respond(stolen.asked, { action: 'decline' })).status).toBe(202)
    expect((await call.rest()).at(-1)?.message).toMatchObject({ id: 'call', result: {} })
  })

  test('what comes late for a session that was deleted brings nothing of it back', async () => {
    let session: Session | undefined
    const late = createSessionHandler(
      (context) => {
        session = context.session
        return scripted()(context)
      },
      { backend: place.backends[0] },
    )
    onTestFinished(() => late.close())
    const client = await openSession(late, { authInfo: ALICE })
    const id = client.sessionId
    const [{ sessions, events }, other] = place.backends
    const stored = await sessions.load(id)
    if (!stored || !events) throw new Error('it is not stored')
    await events.open(id, 'stream', { head: '{}' })
    await session?.state.set('key', 1)
    expect((await client.delete()).status).toBe(200)

    const { record } = stored
    expect(await sessions.update({ ...record, revision: record.revision + 1 }, record.revision, 60_000)).toBeUndefined()
    expect(await sessions.create(record, 60_000)).toBe(false)
    expect(await sessions.touch(id, 60_000)).toBe(false)
    expect(await sessions.setState?.(id, 'key', '2')).toBe('gone')
    await expect(session?.state.set('key', 3)).rejects.toThrow()
    expect(await events.open(id, 'stream', { head: '{}' })).toBe(false)
    expect(await events.append(id, 'stream', { id: 'late', events: ['{}'] })).toBeUndefined()
    expect(await late.notify.session(id, { method: 'notifications/message' })).toBe(false)
    for (const backend of [place.backends[0], other]) {
      expect(await backend.sessions.load(id)).toBeUndefined()
      expect(await backend.sessions.getState?.(id, 'key')).toBeUndefined()
      expect(await backend.events?.read(id, 'stream', 0, 10)).toBeUndefined()
    }
    for (const node of [late, nodes[1]]) expect((await client.on(node).request('ping')).status).toBe(404)
  })
})
