import assert from 'node:assert/strict'
import { info, log, opened, streamOf } from './events-kit.js'
import { atOnce, BRIEF, type ContractCase, casesOf, eventually, LONG, type Make, present } from './kit.js'
import { hostileTexts, newRecord, PROPERTY_NAMES, randomId } from './samples.js'

/** Who has a stream: opening, writers and claims, readers, deletion, and that streams of other names are untouched. */
export function ownershipCases(make: Make): ContractCase[] {
  const { it } = casesOf(make)
  return [
    it('opening a stream that is there changes nothing', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '"first"', writer: 'w1' })
      await stream(a).append({ id: 'b1', writer: 'w1', events: ['1'] })
      await stream(a).attach('r1')
      const before = await stream(a).read(0, 10)
      assert.equal(await stream(b).open({ head: '"second"', writer: 'w2', base: 50 }), true)
      assert.deepEqual(await stream(a).read(0, 10), before)
    }),

    it('a stream that several nodes open at once is opened by one of them', async (handles) => {
      const session = randomId()
      const outcomes = await atOnce(handles, 8, (backend, index) =>
        streamOf(backend, session, 's').open({ head: `${index}`, writer: `${index}` }),
      )
      assert.deepEqual(outcomes, Array(8).fill(true))
      const slice = await streamOf(handles.b, session, 's').slice()
      assert.equal(slice.head, slice.writer)
    }),

    it('only the writer of a stream appends to it', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '0', writer: 'w' })
      assert.equal(await stream(b).append({ id: 'b1', writer: 'W', events: ['1'] }), undefined)
      assert.equal(await stream(b).append({ id: 'b2', events: ['1'] }), undefined)
      assert.equal(await stream(b).append({ id: 'b3', writer: '', events: ['1'] }), undefined)
      assert.equal(await stream(b).append({ id: 'b4', writer: 'x', events: [], end: true }), undefined)
      assert.equal(await stream(b).append({ id: 'b5', writer: 'w', events: ['1'] }), 1)
      const slice = await stream(a).slice()
      assert.deepEqual([slice.events.length, slice.last, slice.ended], [1, 1, false])
    }),

    it('anyone appends to a stream without a writer', async ({ a, b }) => {
      const { stream } = await opened(a)
      assert.equal(await stream(a).append({ id: 'b1', writer: 'x', events: ['1'] }), 1)
      assert.equal(await stream(b).append({ id: 'b2', events: ['2'] }), 2)
      assert.equal(await stream(b).append({ id: 'b3', writer: 'y', events: ['3'] }), 3)
      assert.equal((await stream(b).read(0, 1))?.writer, undefined)
    }),

    it('claim makes another the writer, and the former writer is refused', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '0', writer: 'w1' })
      await stream(a).append({ id: 'b1', writer: 'w1', events: ['1'] })
      assert.equal(await stream(b).claim('w2', 'someone'), false)
      assert.equal((await stream(a).read(0, 1))?.writer, 'w1')
      assert.equal(await stream(b).claim('w2', 'w1'), true)
      assert.equal((await stream(a).read(0, 1))?.writer, 'w2')
      assert.equal(await stream(a).append({ id: 'b2', writer: 'w1', events: ['late'] }), undefined)
      assert.equal(await stream(b).append({ id: 'b3', writer: 'w2', events: ['2'] }), 2)
      assert.equal(await stream(a).claim('w3', 'w1'), false)
      assert.deepEqual(await stream(a).data(), ['1', '2'])
    }),

    it('a stream without a writer cannot be claimed', async ({ a, b }) => {
      const { stream } = await opened(a)
      for (const from of ['', 'undefined', 'null', 'w']) assert.equal(await stream(b).claim('w', from), false)
      assert.equal((await stream(a).read(0, 1))?.writer, undefined)
    }),

    it('of several claims at once exactly one wins', async (handles) => {
      const { stream } = await opened(handles.a, { head: '0', writer: 'dead' })
      const outcomes = await atOnce(handles, 12, (backend, index) => stream(backend).claim(`w${index}`, 'dead'))
      assert.equal(outcomes.filter(Boolean).length, 1)
      assert.equal((await stream(handles.b).read(0, 1))?.writer, `w${outcomes.indexOf(true)}`)
    }),

    it('nothing of the former writer is appended once a claim has won', async (handles) => {
      const { stream } = await opened(handles.a, { head: '0', writer: 'old' })
      let lastAtClaim: number | undefined
      const outcomes = await atOnce(handles, 30, async (backend, index) => {
        if (index !== 15) return stream(backend).append({ id: `b${index}`, writer: 'old', events: [`${index}`] })
        assert.equal(await stream(backend).claim('new', 'old'), true)
        lastAtClaim = (await stream(backend).read(0, 1))?.last
        return undefined
      })
      const accepted = outcomes.filter((position) => position !== undefined)
      assert.equal((await stream(handles.a).read(0, 1))?.last, lastAtClaim)
      assert.equal(accepted.length, lastAtClaim)
    }),

    it(
      'an expired stream cannot be claimed',
      async ({ a, b }) => {
        const { stream } = await opened(a, { head: '0', writer: 'w' })
        await eventually('expiry of a stream', async () => (await stream(a).read(0, 1)) === undefined)
        assert.equal(await stream(b).claim('x', 'w'), false)
        assert.equal(await stream(a).read(0, 1), undefined)
      },
      { retention: { ttl: BRIEF } },
    ),

    it('attach records the reader, and resolves with the reader before', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '"h"', writer: 'w' })
      await stream(a).append({ id: 'b1', writer: 'w', events: ['1', '2'] })
      const before = info({
        head: '"h"',
        writer: 'w',
        reader: undefined,
        sent: undefined,
        first: 1,
        last: 2,
        ended: false,
      })
      assert.deepEqual(await stream(a).attach('r1'), before)
      assert.deepEqual(await stream(b).attach('r2'), { ...before, reader: 'r1' })
      assert.equal((await stream(a).read(0, 1))?.reader, 'r2')
      assert.equal((await stream(a).attach('r3'))?.reader, 'r2')
    }),

    it('sent keeps the highest position that it was told, whoever follows the stream', async ({ a, b }) => {
      const { stream } = await opened(a)
      await stream(a).append({ id: 'b1', events: ['1', '2', '3'] })
      await stream(a).attach('r1')
      assert.equal((await stream(b).read(0, 1))?.sent, undefined)
      await stream(a).sent(2)
      assert.equal((await stream(b).attach('r2'))?.sent, 2)
      await stream(a).sent(3)
      await stream(b).sent(1)
      assert.equal((await stream(a).read(0, 1))?.sent, 3)
    }),

    it('sent of a stream that is not there makes none', async ({ a, b }) => {
      const handle = streamOf(a, randomId(), 's')
      await handle.sent(1)
      assert.equal(await streamOf(b, 'none', 's').read(0, 1), undefined)
      assert.equal(await handle.read(0, 1), undefined)
    }),

    it('of several readers that attach at once each learns of another one before it', async (handles) => {
      const { stream } = await opened(handles.a)
      const infos = await atOnce(handles, 10, (backend, index) => stream(backend).attach(`r${index}`))
      const before = infos.map((each) => present(each, 'info').reader)
      assert.equal(new Set(before).size, 10)
      assert.equal(before.filter((reader) => reader === undefined).length, 1)
      const now = (await stream(handles.b).read(0, 1))?.reader
      assert.equal(before.includes(now), false)
    }),

    it("delete removes all streams of a session and no other's, and open refuses it from then on", async ({ a, b }) => {
      const tag = randomId()
      const neighbours = [`${tag}:s1`, `${tag}*`, `${tag}_`, `${tag}1`, `{${tag}}`, tag.slice(0, -1)]
      const streams = ['s1', 's2', '*', 'a:b']
      for (const session of [tag, ...neighbours]) {
        for (const stream of streams) {
          assert.equal(await streamOf(a, session, stream).open({ head: '0' }), true)
          await streamOf(a, session, stream).append({ id: 'b1', events: [JSON.stringify(session)] })
        }
      }
      await a.events?.delete(tag)
      for (const backend of [a, b]) {
        for (const stream of [...streams, 'new']) {
          const handle = streamOf(backend, tag, stream)
          assert.equal(await handle.read(0, 10), undefined)
          assert.equal(await handle.append({ id: 'late', events: ['1'] }), undefined)
          assert.equal(await handle.attach('r'), undefined)
          assert.equal(await handle.claim('w', 'x'), false)
          assert.equal(await handle.open({ head: '0' }), false)
          assert.equal(await handle.read(0, 10), undefined)
        }
      }
      for (const session of neighbours) {
        for (const stream of streams) {
          assert.equal((await streamOf(b, session, stream).read(0, 1))?.events[0]?.data, JSON.stringify(session))
        }
      }
    }),

    it('open refuses a session that was deleted when it had no streams', async ({ a, b }) => {
      const session = randomId()
      await a.events?.delete(session)
      await a.events?.delete(session)
      assert.equal(await streamOf(b, session, 's').open({ head: '0' }), false)
    }),

    it('nothing brings a stream back that is deleted while others use it', async (handles) => {
      for (let round = 0; round < 4; round++) {
        const { session, stream } = await opened(handles.a)
        await atOnce(handles, 16, async (backend, index) => {
          if (index === 7) await log(backend).delete(session)
          else if (index % 3 === 0) await stream(backend).open({ head: '0' })
          else if (index % 3 === 1) await stream(backend).append({ id: `b${index}`, events: ['1'] })
          else await stream(backend).attach(`r${index}`)
        })
        for (const backend of [handles.a, handles.b]) {
          assert.equal(await stream(backend).read(0, 1), undefined)
          assert.equal(await stream(backend).open({ head: '0' }), false)
        }
      }
    }),

    it('open refuses a session that was deleted from the store', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      assert.equal(await streamOf(a, record.id, 's').open({ head: '0' }), true)
      await a.sessions.delete(record.id)
      for (const backend of [a, b]) {
        assert.equal(await streamOf(backend, record.id, 's').open({ head: '0' }), false)
        assert.equal(await streamOf(backend, record.id, 'new').open({ head: '0' }), false)
        assert.equal(await streamOf(backend, record.id, 'new').read(0, 1), undefined)
      }
    }),

    it("another session's stream of the same id is untouched, whatever the ids", async ({ a, b }) => {
      const tag = randomId()
      const texts = hostileTexts(tag)
      const pairs = [
        ...texts.map((text, index) => [text, present(texts[texts.length - 1 - index], 'text')] as const),
        ...texts.map((text) => [text, 'same'] as const),
        ...[...PROPERTY_NAMES].map((name) => [tag, name] as const),
        [tag, 'b:c'] as const,
        [`${tag}:b`, 'c'] as const,
        [`${tag}","b`, 'c'] as const,
        [tag, '","b","c'] as const,
      ]
      for (const [index, [session, stream]] of pairs.entries()) {
        const handle = streamOf(a, session, stream)
        assert.equal(await handle.open({ head: `${index}`, writer: stream, base: index }), true)
        assert.equal(await handle.append({ id: session, writer: stream, events: [`${index}`, stream] }), index + 2)
      }
      for (const [index, [session, stream]] of pairs.entries()) {
        const handle = streamOf(b, session, stream)
        assert.deepEqual(await handle.read(0, 10), {
          ...info({
            head: `${index}`,
            writer: stream,
            reader: undefined,
            sent: undefined,
            first: index + 1,
            last: index + 2,
            ended: false,
          }),
          events: [
            { position: index + 1, data: `${index}` },
            { position: index + 2, data: stream },
          ],
        })
        assert.equal((await handle.attach(stream))?.reader, undefined)
        assert.equal(await handle.append({ id: session, writer: stream, events: ['again'] }), index + 2)
        assert.equal(await handle.claim(session, stream), true)
      }
    }),
  ]
}
