import assert from 'node:assert/strict'
import { dataOf, info, log, opened, positionsOf, streamOf } from './events-kit.js'
import { atOnce, type ContractCase, casesOf, eventually, type Make, present } from './kit.js'
import { PROPERTY_NAMES, randomId, randomText } from './samples.js'

/** What a stream holds: order, reading, ends, trimming, expiry. */
export function contentCases(make: Make): ContractCase[] {
  const { it, timed } = casesOf(make)
  return [
    it('a stream that was opened has no events', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '{"n":1}', writer: 'w' })
      const expected = {
        head: '{"n":1}',
        writer: 'w',
        reader: undefined,
        sent: undefined,
        first: 1,
        last: 0,
        ended: false,
      }
      assert.deepEqual(await stream(b).read(0, 10), { ...info(expected), events: [] })
    }),

    it('a stream that was not opened is unknown', async ({ a }) => {
      const session = randomId()
      for (const stream of ['s', ...PROPERTY_NAMES]) {
        const handle = streamOf(a, session, stream)
        assert.equal(await handle.read(0, 10), undefined)
        assert.equal(await handle.append({ id: 'b', events: ['1'] }), undefined)
        assert.equal(await handle.append({ id: 'b', events: [] }), undefined)
        assert.equal(await handle.attach('r'), undefined)
        assert.equal(await handle.claim('w', ''), false)
        assert.equal(await handle.read(0, 10), undefined)
      }
    }),

    it('append resolves with the position of its last event; positions grow by one', async ({ a, b }) => {
      const { stream } = await opened(a)
      assert.equal(await stream(a).append({ id: 'b1', events: ['"a"'] }), 1)
      assert.equal(await stream(b).append({ id: 'b2', events: ['"b"', '"c"', '"d"'] }), 4)
      assert.equal(await stream(a).append({ id: 'b3', events: ['"e"'] }), 5)
      const slice = await stream(b).slice()
      assert.deepEqual(
        slice.events,
        ['a', 'b', 'c', 'd', 'e'].map((letter, index) => ({ position: index + 1, data: `"${letter}"` })),
      )
      assert.deepEqual([slice.first, slice.last], [1, 5])
    }),

    it("base is the first event's position less one", async ({ a, b }) => {
      const base = 5_000_000_000
      const { stream } = await opened(a, { head: '0', base })
      const fresh = await stream(b).slice()
      assert.deepEqual([fresh.first, fresh.last], [base + 1, base])
      assert.equal(await stream(a).append({ id: 'none', events: [] }), base)
      assert.equal(await stream(a).append({ id: 'b1', events: ['1', '2'] }), base + 2)
      const slice = await stream(b).slice(base + 1, 10)
      assert.deepEqual(slice.events, [{ position: base + 2, data: '2' }])
      assert.deepEqual([slice.first, slice.last], [base + 1, base + 2])
    }),

    it('a stream that stands behind `after` went backwards: what it has is dropped, and the batch follows', async (handles) => {
      const { a, b } = handles
      const { stream } = await opened(a, { head: '0', writer: 'w' })
      await stream(a).append({ id: 'b1', writer: 'w', events: ['1', '2'] })
      assert.equal(await stream(b).append({ id: 'b2', writer: 'w', events: ['"six"', '"seven"'], after: 5 }), 7)
      const slice = await stream(a).slice()
      assert.deepEqual([slice.first, slice.last], [6, 7])
      assert.deepEqual(slice.events, [
        { position: 6, data: '"six"' },
        { position: 7, data: '"seven"' },
      ])
      assert.equal(await stream(a).append({ id: 'b3', writer: 'w', events: ['"eight"'], after: 7 }), 8)
      assert.equal(await stream(a).append({ id: 'b4', writer: 'w', events: [], after: 20 }), 20)
      const empty = await stream(b).slice()
      assert.deepEqual([empty.first, empty.last, empty.events], [21, 20, []])
    }),

    it('an `after` that the stream has reached changes nothing, and neither does a batch that is refused', async ({
      a,
      b,
    }) => {
      const { stream } = await opened(a)
      await stream(a).append({ id: 'b1', events: ['1', '2'] })
      assert.equal(await stream(b).append({ id: 'b2', events: ['3'], after: 1 }), 3)
      assert.equal(await stream(b).append({ id: 'b1', events: ['1', '2'], after: 9 }), 2)
      const owned = streamOf(a, randomId(), 'owned')
      await owned.open({ head: '0', writer: 'w' })
      assert.equal(await owned.append({ id: 'b3', writer: 'x', events: ['4'], after: 9 }), undefined)
      const slices = [await stream(a).slice(), await owned.slice()]
      assert.deepEqual(
        slices.map(({ first, last }) => [first, last]),
        [
          [1, 3],
          [1, 0],
        ],
      )
    }),

    it('several appenders at once get one order without a hole, and every batch stays together', async (handles) => {
      const { stream } = await opened(handles.a)
      const size = (index: number) => (index % 4) + 1
      const batches = Array.from({ length: 60 }, (_, index) => ({
        id: `b${index}`,
        events: Array.from({ length: size(index) }, (__, part) => `[${index},${part}]`),
      }))
      const lasts = await atOnce(handles, batches.length, (backend, index) =>
        stream(backend).append(present(batches[index], 'batch')),
      )
      const slice = await stream(handles.b).slice(0, 1000)
      const total = batches.reduce((sum, batch) => sum + batch.events.length, 0)
      assert.deepEqual(
        positionsOf(slice),
        Array.from({ length: total }, (_, index) => index + 1),
      )
      for (const [index, batch] of batches.entries()) {
        const last = present(lasts[index], 'position')
        assert.deepEqual(dataOf(slice).slice(last - batch.events.length, last), batch.events)
      }
    }),

    it('read gives at most limit events after a position, oldest first', async ({ a, b }) => {
      const { stream } = await opened(a)
      await stream(a).append({ id: 'b1', events: ['1', '2', '3', '4', '5', '6', '7'] })
      assert.deepEqual(await stream(b).positions(0, 3), [1, 2, 3])
      assert.deepEqual(await stream(b).positions(3, 3), [4, 5, 6])
      assert.deepEqual(await stream(b).positions(6, 3), [7])
      assert.deepEqual(await stream(b).positions(7, 3), [])
      assert.deepEqual(await stream(b).positions(1000, 3), [])
      const slice = await stream(b).slice(2, 1)
      assert.deepEqual([slice.first, slice.last, slice.ended, slice.head], [1, 7, false, '"head"'])
    }),

    it('an empty batch adds nothing and resolves with the last position', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '0', writer: 'w' })
      assert.equal(await stream(a).append({ id: 'k1', writer: 'w', events: [] }), 0)
      await stream(a).append({ id: 'b1', writer: 'w', events: ['1', '2'] })
      assert.equal(await stream(b).append({ id: 'k2', writer: 'w', events: [] }), 2)
      assert.equal(await stream(b).append({ id: 'k3', writer: 'other', events: [] }), undefined)
      assert.deepEqual(await stream(b).positions(), [1, 2])
    }),

    it('a stream that has ended refuses batches and claims, and is still read', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '0', writer: 'w' })
      assert.equal(await stream(a).append({ id: 'b1', writer: 'w', events: ['1', '2'], end: true }), 2)
      assert.equal(await stream(b).append({ id: 'b2', writer: 'w', events: ['3'] }), undefined)
      assert.equal(await stream(a).append({ id: 'b3', writer: 'w', events: [] }), undefined)
      assert.equal(await stream(b).append({ id: 'b4', writer: 'w', events: [], end: true }), undefined)
      assert.equal(await stream(b).claim('other', 'w'), false)
      assert.equal(await stream(b).open({ head: '1', writer: 'other' }), true)
      const slice = await stream(b).slice()
      assert.deepEqual([slice.ended, slice.last, slice.writer, slice.head], [true, 2, 'w', '0'])
      assert.deepEqual(dataOf(slice), ['1', '2'])
      assert.equal((await stream(b).attach('r'))?.ended, true)
    }),

    it('a stream may end with an empty batch, which may be sent again', async ({ a, b }) => {
      const { stream } = await opened(a)
      await stream(a).append({ id: 'b1', events: ['1'] })
      assert.equal(await stream(a).append({ id: 'b2', events: [], end: true }), 1)
      assert.equal(await stream(b).append({ id: 'b2', events: [], end: true }), 1)
      assert.equal((await stream(b).read(0, 10))?.ended, true)
    }),

    it(
      'beyond maxEvents the oldest events are removed, and first says which is the oldest now',
      async ({ a, b }) => {
        const { stream } = await opened(a)
        await stream(a).append({ id: 'b1', events: ['1', '2', '3', '4', '5'] })
        assert.deepEqual(await stream(b).positions(), [1, 2, 3, 4, 5])
        assert.equal(await stream(a).append({ id: 'b2', events: ['6', '7'] }), 7)
        const slice = await stream(b).slice()
        assert.deepEqual([slice.first, slice.last], [3, 7])
        assert.deepEqual(positionsOf(slice), [3, 4, 5, 6, 7])
        assert.deepEqual(await stream(b).positions(1, 2), [3, 4])
        const many = Array.from({ length: 40 }, (_, index) => `${index}`)
        assert.equal(await stream(a).append({ id: 'b3', events: many }), 47)
        const after = await stream(b).slice()
        assert.deepEqual([after.first, after.last], [43, 47])
        assert.deepEqual(dataOf(after), ['35', '36', '37', '38', '39'])
      },
      { retention: { maxEvents: 5 } },
    ),

    it(
      'beyond maxBytes (UTF-16 code units) the oldest events are removed; the newest stays whatever its size',
      async ({ a, b }) => {
        const { stream } = await opened(a)
        const event = (letter: string, length: number) => letter.repeat(length)
        for (const letter of ['a', 'é', '漢']) await stream(a).append({ id: letter, events: [event(letter, 300)] })
        assert.deepEqual(await stream(b).positions(), [1, 2, 3])
        await stream(a).append({ id: 'exact', events: [event('b', 100)] })
        assert.deepEqual(await stream(b).positions(), [1, 2, 3, 4])
        await stream(a).append({ id: 'over', events: [event('c', 1)] })
        assert.deepEqual(await stream(b).positions(), [2, 3, 4, 5])
        await stream(a).append({ id: 'big', events: [event('d', 5000)] })
        const slice = await stream(b).slice()
        assert.deepEqual([slice.first, slice.last, slice.events.length], [6, 6, 1])
        await stream(a).append({ id: 'small', events: [event('e', 10)] })
        assert.deepEqual(await stream(b).positions(), [7])
        await stream(a).append({ id: 'pair', events: [event('🙂', 490), event('f', 15)] })
        assert.deepEqual(await stream(b).positions(), [8, 9])
      },
      { retention: { maxBytes: 1000 } },
    ),

    timed(
      'a stream expires after its last append, and a new one may begin beyond its positions',
      async ({ a, b }, race) => {
        const { stream } = await opened(a)
        const last = present(await stream(a).append({ id: 'b1', events: ['1', '2'] }), 'position')
        race.stop()
        await eventually('expiry of a stream', async () => (await stream(b).read(0, 1)) === undefined)
        assert.equal(await stream(a).append({ id: 'b2', events: ['3'] }), undefined)
        assert.equal(await stream(a).attach('r'), undefined)
        race.start()
        assert.equal(await stream(b).open({ head: '"new"', base: last }), true)
        assert.equal(await stream(a).append({ id: 'b1', events: ['x'] }), last + 1)
        const slice = await stream(b).slice()
        assert.deepEqual(slice.events, [{ position: last + 1, data: 'x' }])
        assert.equal(slice.head, '"new"')
      },
      (ttl) => ({ retention: { ttl } }),
    ),

    timed(
      'appending keeps a stream, with events or without',
      async ({ a, b }, race) => {
        const { session, stream } = await opened(a)
        const quiet = streamOf(a, session, 'quiet')
        await quiet.open({ head: '0' })
        let appended = 0
        let empty = 0
        await eventually('expiry of the stream that is not appended to', async () => {
          assert.notEqual(await stream(b).append({ id: `b${appended}`, events: [`${appended++}`] }), undefined)
          race.start()
          return (await quiet.read(0, 1)) === undefined
        })
        await quiet.open({ head: '0' })
        await eventually('expiry of the stream that is not appended to', async () => {
          assert.equal(await stream(b).append({ id: `k${empty++}`, events: [] }), appended)
          race.start()
          return (await quiet.read(0, 1)) === undefined
        })
        assert.equal((await stream(a).read(0, 1))?.events[0]?.data, '0')
      },
      (ttl) => ({ retention: { ttl } }),
    ),

    timed(
      'keep lets streams last as an append would, ended or not',
      async ({ a, b }, race) => {
        const { session, stream } = await opened(a)
        const [quiet, done] = [streamOf(a, session, 'quiet'), streamOf(a, session, 'done')]
        for (const handle of [quiet, done]) await handle.open({ head: '0' })
        await stream(a).append({ id: 'b1', events: ['1'] })
        await done.append({ id: 'b1', events: ['1', '2'], end: true })
        const kept = ['stream', 'done', 'none'].map((name) => ({ session, stream: name }))
        await eventually('expiry of the stream that is not kept', async () => {
          await log(b).keep([...kept, { session: randomId(), stream: 'stream' }])
          assert.notEqual(await stream(a).read(0, 1), undefined)
          race.start()
          return (await quiet.read(0, 1)) === undefined
        })
        assert.deepEqual([await stream(b).data(), await done.data()], [['1'], ['1', '2']])
        assert.deepEqual(await log(a).look(kept.slice(2)), [undefined])
        race.stop()
        await eventually('expiry of a stream that has ended', async () => (await done.read(0, 1)) === undefined)
        await eventually('expiry of a stream', async () => (await stream(b).read(0, 1)) === undefined)
      },
      (ttl) => ({ retention: { ttl } }),
    ),

    it('streams need no session record', async ({ a }) => {
      const { stream } = await opened(a)
      assert.equal(await stream(a).append({ id: 'b1', events: ['1'] }), 1)
    }),

    it('large events and large batches are read unchanged and in order', async ({ a, b }) => {
      const { stream } = await opened(a)
      const big = JSON.stringify(randomText(300_000))
      const many = Array.from({ length: 1000 }, (_, index) => JSON.stringify({ index, text: 'é🙂\u2028\\u0000' }))
      assert.equal(await stream(a).append({ id: 'b1', events: [big] }), 1)
      assert.equal(await stream(a).append({ id: 'b2', events: many }), 1001)
      const slice = await stream(b).slice(0, 2000)
      assert.deepEqual(dataOf(slice), [big, ...many])
    }),

    it('a large head is read unchanged', async ({ a, b }) => {
      const head = JSON.stringify(randomText(100_000))
      const { stream } = await opened(a, { head })
      assert.equal((await stream(b).read(0, 1))?.head, head)
      assert.equal((await stream(b).attach('r'))?.head, head)
    }),
  ]
}
