/** One connection a stream, the newest one; and none when the session is gone (invariants 4 and 6). */
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { DOORS } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { stage } from './stage.js'
import { calling, messages, noStreamOpen, said, streaming } from './streams.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('one connection a stream', () => {
    test('the newest GET wins, and the older one ends', async () => {
      const at = await stage(name)
      const client = await at.session()
      const first = await client.get()
      await at.server.say(1)
      expect((await first.next())?.message.params.data).toBe(1)
      const second = await client.get()
      expect(await first.rest()).toEqual([])
      await at.server.say(2)
      expect((await second.next())?.message.params.data).toBe(2)
      const third = await client.get()
      expect(await second.rest()).toEqual([])
      await at.server.say(3)
      expect((await third.next())?.message.params.data).toBe(3)
    })

    test('the newest GET wins on whatever node it is, and the older one ends', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.session()
      const first = await client.get()
      await here.server.say(1)
      expect((await first.next())?.message.params.data).toBe(1)
      const second = await client.at(there.door).get()
      expect(await first.rest()).toEqual([])
      await here.server.say(2)
      expect((await second.next())?.message.params.data).toBe(2)
    })

    test('of many GETs at once one is left, and a message goes out once', async () => {
      const at = await stage(name)
      const client = await at.session()
      const gets = await Promise.all(Array.from({ length: 10 }, () => client.get()))
      await at.server.say('only once')
      expect((await at.handler.status()).openStreams).toBe(1)
      const gone = gets.map((get) => get.untilGone())
      await at.handler.drain()
      const all = await Promise.all(gone)
      expect(messages(all.flatMap(({ events }) => events))).toMatchObject(said('only once'))
      // a drain breaks the one that is left: many clients come back only then
      expect(all.filter(({ broken }) => broken)).toHaveLength(1)
    })

    test('a message on the older one while the newer one attaches goes out once', async () => {
      const backend = gated()
      const at = await stage(name, { backend })
      const client = await at.session()
      const first = await client.get()
      await at.server.say(1)
      expect((await first.next())?.message.params.data).toBe(1)
      const gate = backend.calls.holdAnswer('events.attach')
      const pending = client.get()
      await gate.reached
      await at.server.say(2)
      gate.open()
      const second = await pending
      await at.server.say(3)
      const seen: unknown[] = (await first.rest()).map(({ message }) => message.params.data)
      while (seen.at(-1) !== 3) seen.push((await second.next())?.message.params.data)
      expect(seen).toEqual([2, 3])
    })

    test('without a cursor the next one begins where the last one ended, on this node and on another', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.session({ version: '2025-06-18' })
      const first = await client.get()
      await here.server.say(1)
      expect((await first.next())?.message.params.data).toBe(1)
      await first.leave()
      await noStreamOpen(here)
      await here.server.say(2)
      const second = await client.get()
      expect((await second.next())?.message.params.data).toBe(2)
      await second.leave()
      await noStreamOpen(here)
      await here.server.say(3)
      expect((await (await client.at(there.door).get()).next())?.message.params.data).toBe(3)
    })

    test('a POST’s stream that is resumed while its connection still stands moves over', async () => {
      const at = await stage(name)
      const client = await at.session()
      const { stream, call, last } = await streaming(at, client, 1)
      const resumed = await client.get(last)
      expect(await stream.rest()).toEqual([])
      await call.say('a')
      await call.answer()
      expect(messages(await resumed.rest())).toMatchObject([...said('a'), { id: 1 }])
    })
  })

  describe('DELETE', () => {
    test('ends running requests without a response: streams end, a POST without one is told 404', async () => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.session()
      const { stream, call } = await streaming(at, client, 1)
      const pending = await calling(at, client, 2)
      const get = await client.get()
      expect((await client.delete()).status).toBe(200)
      expect(await stream.rest()).toEqual([])
      expect(await get.rest()).toEqual([])
      const answer = await pending.answer
      expect(answer.status).toBe(404)
      expect(JSON.parse(await answer.text())).toMatchObject({ id: 2, error: { code: -32001 } })
      expect(at.server.closed).toBe(true)
      await expect(call.say('late')).rejects.toThrow()
    })

    test('while a GET is attaching: no stream of the session is left', async () => {
      const backend = gated()
      const at = await stage(name, { backend })
      const client = await at.session()
      const gate = backend.calls.holdAnswer('events.attach')
      const pending = client.get()
      await gate.reached
      expect((await client.delete()).status).toBe(200)
      gate.open()
      const get = await pending
      if (get.status === 200) expect(await get.rest()).toEqual([])
      else expect(get.status).toBe(404)
      expect((await at.handler.status()).openStreams).toBe(0)
    })

    test('on another node ends streams here, also where the instance has closed itself', async () => {
      const backend = memory()
      const here = await stage(name, { backend })
      const there = await stage(name, { backend })
      const client = await here.session()
      const get = await client.get()
      await here.server.close()
      expect((await client.at(there.door).delete()).status).toBe(200)
      expect(await get.rest()).toEqual([])
    })
  })
})
