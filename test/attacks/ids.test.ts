/** Made-up session ids where ids are signed: each way in, on each backend, and what that costs the store. */
import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createSessionHandler, type SessionHandler } from '../../src/index.js'
import { describeBackends, type Place } from '../harness/backends.js'
import { type GatedBackend, gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { initializeMessage, openSession, WireClient } from '../harness/wire-client.js'

const [OURS, OLDER, FOREIGN] = ['a', 'b', 'c'].map((letter) => letter.repeat(32)) as [string, string, string]

const flip = (text: string) =>
  text.replace(/[a-z]/gi, (c) => (c === c.toLowerCase() ? c.toUpperCase() : c.toLowerCase()))
const hmac = (secret: string, text: string) =>
  createHmac('sha256', secret).update(text).digest('base64url').slice(0, 24)
const cut = (id: string) => [id.slice(0, id.lastIndexOf('.')), id.slice(id.lastIndexOf('.'))] as [string, string]

/** What is made of a good id, and of another good one. */
const FORGED: Record<string, (id: string, other: string) => string> = {
  'a random one': () => crypto.randomUUID(),
  'one without its signature': (id) => cut(id)[0],
  'one with an empty signature': (id) => `${cut(id)[0]}.`,
  'the signature alone': (id) => cut(id)[1],
  'one that lacks its last character': (id) => id.slice(0, -1),
  'one that lacks its first character': (id) => id.slice(1),
  'one with a character more': (id) => `${id}A`,
  'one with a character more before the signature': (id) => cut(id).join('A'),
  'one in another case': flip,
  'one whose signature is in another case': (id) => cut(id)[0] + flip(cut(id)[1]),
  'one whose name is in upper case': (id) => cut(id)[0].toUpperCase() + cut(id)[1],
  'one twice, with a comma': (id) => `${id}, ${id}`,
  'one twice, with a dot': (id) => `${id}.${id}`,
  'one with its signature twice': (id) => id + cut(id)[1],
  'one with the signature of another session': (id, other) => cut(id)[0] + cut(other)[1],
  'a random one with the signature of a session': (id) => crypto.randomUUID() + cut(id)[1],
  'one signed by anybody’s HMAC with our secret': (id) => `${cut(id)[0]}.${hmac(OURS, cut(id)[0])}`,
  'one signed as ours are, with another secret': (id) =>
    `${cut(id)[0]}.${hmac(FOREIGN, `mcp-roam session id\n${cut(id)[0]}`)}`,
  'one that is too long': (id) => `${'x'.repeat(256)}${id}`,
  'one with a percent escape': (id) => id.replace('.', '%2e'),
  'a hostile one': () => '__proto__.constructor',
}

/** Each way to name a session, and its status; 404 comes first where the id is none. */
async function ways(client: WireClient): Promise<number[]> {
  const answers = await Promise.all([
    client.request('ping'),
    client.notify('notifications/roots/list_changed'),
    client.respond('x', {}),
    client.notify('notifications/cancelled', { requestId: 1 }),
    client.send({ method: 'GET' }),
    client.send({ method: 'GET', headers: { 'last-event-id': 'AAAAAAAAAAAA.standalone.1' } }),
    client.delete(),
  ])
  return answers.map(({ status }) => status)
}
const NOWHERE = Array(7).fill(404)

describeBackends((open) => {
  let place: Place
  let stores: [GatedBackend, GatedBackend]
  const nodes: SessionHandler[] = []
  const node = (which: 0 | 1, ...secret: string[]) => {
    const handler = createSessionHandler(scripted(), { backend: stores[which], secret })
    nodes.push(handler)
    return handler
  }
  let served: [SessionHandler, SessionHandler]
  let clients: [WireClient, WireClient]

  beforeAll(async () => {
    place = open()
    stores = place.backends.map((backend) => gated(backend)) as typeof stores
    served = [node(0, OURS, OLDER), node(1, OURS, OLDER)]
    clients = [await openSession(served[0]), await openSession(served[1])]
  })

  afterAll(async () => {
    await Promise.all(nodes.map((each) => each.close()))
    await place.close()
  })

  const lookUps = () =>
    stores.map(({ calls }) => ['sessions.load', 'sessions.delete', 'events'].map((what) => calls.count(what)))

  describe('is 404 on every way in, on both nodes, and the store is not asked:', () => {
    test.each(Object.entries(FORGED))('%s', async (_, forge) => {
      const [mine, others] = clients
      const id = forge(mine.sessionId, others.sessionId)
      for (const { calls } of stores) calls.reset()
      for (const handler of served) expect(await ways(new WireClient(handler, id))).toEqual(NOWHERE)
      expect(lookUps()).toEqual([
        [0, 0, 0],
        [0, 0, 0],
      ])
      // It is no reason to refuse a new session.
      const begun = await new WireClient(served[0], id).post(initializeMessage())
      expect(begun.status).toBe(200)
      expect([id, mine.sessionId]).not.toContain(begun.sessionId)
      expect(lookUps()[0]?.slice(0, 2)).toEqual([0, 0])
      // Nothing has happened to the session.
      for (const handler of served) expect((await mine.at(handler).request('ping')).status).toBe(200)
    })
  })

  test('a session that is there, whose id was signed with a secret that is not in the list, is 404 and stays', async () => {
    const elsewhere = node(0, FOREIGN)
    const client = await openSession(elsewhere)
    for (const { calls } of stores) calls.reset()
    for (const handler of served) expect(await ways(client.at(handler))).toEqual(NOWHERE)
    expect(stores.map(({ calls }) => calls.count('sessions.load'))).toEqual([0, 0])
    expect((await client.request('ping')).status).toBe(200)
  })

  test('one whose id was signed with the second secret of the list is served by both nodes', async () => {
    const client = await openSession(node(0, OLDER))
    for (const handler of served) expect((await client.at(handler).request('ping')).status).toBe(200)
    expect((await client.at(served[1]).delete()).status).toBe(200)
  })
})
