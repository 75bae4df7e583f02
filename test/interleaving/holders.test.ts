/**
 * A node comes to hold a session, or lets go of it, while another one changes or deletes it, in every order that one held-up call
 * of the backend can force, on every backend: who has the session at hand knows of it (contract, Holders).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeBackends, type Place } from '../harness/backends.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { openSession } from '../harness/wire-client.js'
import { until, within } from '../harness/within.js'

/** Until it has happened, or is held up with nobody to tell, in ms. */
const A_WHILE = 150

async function aWhile(work: Promise<unknown>): Promise<void> {
  await Promise.race([work, new Promise((resolve) => setTimeout(resolve, A_WHILE))])
}

const HOLDS = ['hold', 'holdAnswer'] as const
const points = (...calls: string[]) => calls.flatMap((call) => HOLDS.map((how) => [call, how] as const))

describeBackends((open) => {
  let place: Place
  beforeAll(() => {
    place = open()
  })
  afterAll(() => place.close())

  function start() {
    const [a, b] = place.backends.map((inner, index) => {
      const backend = gated(inner)
      const factory = scripted()
      // The second one lets go of a session as soon as nothing runs on it.
      return { backend, factory, handler: serve(factory, { backend, liveIdle: index === 0 ? 60_000 : 0 }) }
    })
    return { a: a!, b: b! }
  }
  const holders = async (id: string) =>
    (await place.backends[0].sessions.load(id))?.holders?.map((name) => name.split(':')[0])

  describe('a stream is attached on B, held up at', () => {
    test.each(points('sessions.load', 'events.open', 'events.attach', 'bus.subscribe', 'sessions.touch'))(
      '%s (%s), and a DELETE on A meanwhile: it ends',
      async (call, how) => {
        const { a, b } = start()
        const client = await openSession(a.handler)
        const gate = b.backend.calls[how](call)
        const get = client.at(b.handler).get()
        await within(gate.reached, call)
        const deleting = client.delete()
        await aWhile(deleting)
        gate.open()
        expect((await within(deleting, 'DELETE')).status).toBe(200)
        const stream = await within(get, 'GET')
        expect([200, 404]).toContain(stream.status)
        if (stream.status === 200) await within(stream.rest(), 'the end of the stream', 1500)
        expect(b.factory.servers.every(({ closed }) => closed)).toBe(true)
      },
    )
  })

  describe('a request on B, held up at', () => {
    test.each(points('sessions.load', 'bus.subscribe', 'sessions.touch'))(
      '%s (%s), and a change on A meanwhile: its instance knows',
      async (call, how) => {
        const { a, b } = start()
        const client = await openSession(a.handler)
        const gate = b.backend.calls[how](call)
        const request = client.at(b.handler).request('ping')
        await within(gate.reached, call)
        const changing = client.request('logging/setLevel', { level: 'debug' })
        await aWhile(changing)
        gate.open()
        expect((await within(changing, 'the change')).status).toBe(200)
        expect((await within(request, 'the request')).status).toBe(200)
        const [server] = b.factory.servers
        // What served before the change was told may have gone since.
        expect(server?.closed || server?.all('logging/setLevel').length === 1).toBe(true)
      },
    )
  })

  describe('B lets go of the session, held up at', () => {
    test.each(points('sessions.release'))(
      '%s (%s), has it again, and a DELETE on A: gone there, too',
      async (call, how) => {
        const { a, b } = start()
        const client = await openSession(a.handler)
        const onB = client.at(b.handler)
        const gate = b.backend.calls[how](call)
        expect((await onB.request('ping')).status).toBe(200)
        await within(gate.reached, call)
        const stream = await onB.get()
        gate.open()
        await until(async () => (await holders(client.sessionId))?.length === 2)
        expect(await holders(client.sessionId)).toContain(b.handler.nodeId)
        expect((await client.delete()).status).toBe(200)
        await within(stream.rest(), 'the end of the stream', 1500)
        expect((await onB.request('ping')).status).toBe(404)
      },
    )
  })
})
