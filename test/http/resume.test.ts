/** What becomes of a stream when its connection goes: the client comes back, and has each event once, in order (invariant 4). */
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { DOORS, listen } from '../harness/door.js'
import { parseEventId } from '../harness/event-id.js'
import { gated } from '../harness/gated-backend.js'
import { type SseBlock, spreadFrom } from '../harness/sse.js'
import type { WireClient } from '../harness/wire-client.js'
import { request, type Stage, stage } from './stage.js'
import { calling, messages, noStreamOpen, said, streaming } from './streams.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('resuming a stream', () => {
    async function finished(at: Stage, client: WireClient, id = 1) {
      const { answer, call } = await calling(at, client, id)
      for (const data of ['a', 'b', 'c']) await call.say(data)
      await call.answer()
      return (await answer).rest()
    }

    test('that has ended: what is left of it, then 204', async () => {
      const at = await stage(name)
      const client = await at.session()
      const events = await finished(at, client)
      expect(events).toHaveLength(4)
      for (const [index, { id }] of events.entries()) {
        const resumed = await client.get(id)
        expect(resumed.status).toBe(index === 3 ? 204 : 200)
        if (index < 3) expect(await resumed.rest()).toEqual(events.slice(index + 1))
        else expect(await resumed.text()).toBe('')
      }
    })

    test('of another session: 400, even where both are one person’s', async () => {
      const at = await stage(name)
      const auth = { authorization: 'Bearer app/alice' }
      const mine = await at.session({ headers: auth })
      const events = await finished(at, mine)
      const alsoMine = await at.session({ headers: auth })
      const own = await finished(at, alsoMine, 2)
      const standalone = await mine.get()
      await at.factory.servers[0]?.say('secret')
      const secret = await standalone.next()
      expect(secret?.message.params.data).toBe('secret')
      const theirs = [...events, secret].map((event) => event?.id)
      // and what is forged from one's own tag and the other's stream
      const { tag } = parseEventId(own[0]?.id)
      const forged = events.map(({ id }) => [tag, ...String(id).split('.').slice(1)].join('.'))
      for (const id of [...theirs, ...forged]) {
        const refused = await (await alsoMine.get(id)).answer()
        expect(refused, id).toMatchObject({ status: 400, body: { error: { code: -32000 } } })
        expect(refused.text).not.toContain(mine.sessionId)
      }
      for (const { id } of own) expect([200, 204]).toContain((await alsoMine.get(id)).status)
    })

    test('of another principal: 404', async () => {
      const at = await stage(name)
      const alice = await at.session({ headers: { authorization: 'Bearer app/alice' } })
      const events = await finished(at, alice)
      for (const authorization of ['Bearer app/bob', 'Bearer other/alice', undefined]) {
        const answer = await alice.get(events[0]?.id, { headers: { authorization } })
        expect(answer.status).toBe(404)
        expect(answer.sessionId).toBeUndefined()
      }
    })

    test('on another node, while the first one goes on writing it: what was missed, then what comes', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.session()
      const { stream, call, last } = await streaming(here, client, 1)
      await stream.leave()
      await noStreamOpen(here)
      await call.say('missed')
      const resumed = await client.at(there.door).get(last)
      expect((await resumed.next())?.message).toMatchObject(said('missed')[0] as object)
      await call.say('live')
      expect((await resumed.next())?.message).toMatchObject(said('live')[0] as object)
      await call.answer()
      expect(messages(await resumed.rest())).toMatchObject([{ id: 1, result: { done: 1 } }])
    })
  })

  describe('a client that goes away', () => {
    test('does not cancel its call, and comes back for what it has missed', async () => {
      const at = await stage(name)
      const client = await at.session()
      const { stream, call, last } = await streaming(at, client, 1)
      await stream.leave()
      await noStreamOpen(at)
      await call.say('missed')
      await call.answer()
      expect(messages(await (await client.get(last)).rest())).toMatchObject([...said('missed'), { id: 1 }])
      expect(at.server.all('notifications/cancelled')).toEqual([])
    })

    test('before there was anything to read, harms nobody', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.session()
      const connection = new AbortController()
      const { headers, body } = client.with({ body: request(1, 'hold') })
      const all = { accept: '*/*', 'content-type': 'application/json', ...headers } as Record<string, string>
      const init = { method: 'POST', headers: all, body: JSON.stringify(body), signal: connection.signal }
      const port = await listen(at.handler.node)
      const answer =
        name === 'node' ? fetch(`http://127.0.0.1:${port}/`, init) : at.handler.fetch(new Request('http://x/', init))
      answer.catch(() => {})
      const call = await at.call(1)
      connection.abort()
      await call.say('into the void')
      await call.answer()
      expect((await client.post({ id: 1, method: 'ping' })).status).toBe(200)
      expect(at.errors).toEqual([])
    })
  })

  describe('the standalone stream', () => {
    test('begins with what was sent before the first GET, once', async () => {
      const at = await stage(name)
      const client = await at.session()
      await at.server.say(1)
      await at.server.say(2)
      const first = await client.get()
      expect((await first.next())?.message.params.data).toBe(1)
      expect((await first.next())?.message.params.data).toBe(2)
      const second = await client.get()
      await at.server.say(3)
      expect((await second.next())?.message.params.data).toBe(3)
    })

    test('holds what was sent while no client was there, also after the node is gone whose connection had sent nothing', async () => {
      const backend = memory()
      const before = await stage(name, { backend })
      const client = await before.session()
      const get = await client.get()
      await get.block()
      await Promise.all([before.handler.drain({ timeout: 0 }), get.untilGone()])
      const after = await stage(name, { backend })
      const params = { data: 'waited' }
      await after.handler.notify.session(client.sessionId as string, { method: 'notifications/message', params })
      expect((await (await client.at(after.door).get()).next())?.message).toMatchObject({ params })
    })

    test('is not sent again, also if the log was away when it was to be told how far it has come', async () => {
      const backend = gated()
      const before = await stage(name, { backend })
      const client = await before.session()
      const get = await client.get()
      await get.block()
      const failed = new Promise<void>((resolve) => {
        const recover = backend.calls.replace('events.sent', async () => {
          recover()
          resolve()
          throw new Error('the log is away')
        })
      })
      await before.server.say('once')
      expect((await get.next())?.message).toMatchObject(said('once')[0] as object)
      await failed
      await Promise.all([before.handler.drain({ timeout: 0 }), get.untilGone()])
      const after = await stage(name, { backend })
      const next = await client.at(after.door).get()
      await after.handler.notify.toolsChanged()
      expect((await next.next())?.message).toMatchObject({ method: 'notifications/tools/list_changed' })
    })

    test('goes on after the last event that the client has seen', async () => {
      const at = await stage(name)
      const client = await at.session()
      const first = await client.get()
      await at.server.say(1)
      const { id } = (await first.next()) as SseBlock
      await first.leave()
      await noStreamOpen(at)
      await at.server.say(2)
      await at.server.say(3)
      const second = await client.get(id)
      expect((await second.next())?.message.params.data).toBe(2)
      expect((await second.next())?.message.params.data).toBe(3)
      const again = await client.get(id)
      expect((await again.next())?.message.params.data).toBe(2)
    })

    test('closeStandaloneSSE ends its connection, and nothing is lost', async () => {
      const at = await stage(name, { retryInterval: 55 })
      const client = await at.session()
      const get = await client.get()
      const primed = await get.block()
      const { answer, call } = await calling(at, client, 1)
      call.extra?.closeStandaloneSSEStream?.()
      expect(await get.block()).toEqual({ retry: spreadFrom(55) })
      expect(await get.block()).toBeUndefined()
      await at.server.say('meanwhile')
      await call.answer()
      expect(JSON.parse(await (await answer).text())).toMatchObject({ id: 1 })
      expect((await (await client.get(primed?.id)).next())?.message).toMatchObject(said('meanwhile')[0] as object)
    })

    test('carries what the program has to tell, to those that are subscribed', async () => {
      const at = await stage(name)
      const client = await at.session()
      await client.post({ id: 1, method: 'resources/subscribe', params: { uri: 'test://a' } })
      const get = await client.get()
      await at.handler.notify.resourceUpdated('test://b')
      await at.handler.notify.resourceUpdated('test://a')
      await at.handler.notify.toolsChanged()
      expect((await get.next())?.message).toMatchObject({
        method: 'notifications/resources/updated',
        params: { uri: 'test://a' },
      })
      expect((await get.next())?.message).toMatchObject({ method: 'notifications/tools/list_changed' })
    })
  })
})
