import assert from 'node:assert/strict'
import { RECENT_BATCHES } from '../backend/backend.js'
import { dataOf, opened, streamOf } from './events-kit.js'
import { atOnce, type ContractCase, casesOf, type Make } from './kit.js'

/** Each batch once: those that are sent again, or come late. */
export function batchCases(make: Make): ContractCase[] {
  const { it } = casesOf(make)
  return [
    it('a batch that is sent again changes nothing and resolves like the first time', async ({ a, b }) => {
      const { stream } = await opened(a)
      const first = { id: 'b1', events: ['1', '2'] }
      assert.equal(await stream(a).append(first), 2)
      assert.equal(await stream(b).append(first), 2)
      for (let index = 2; index <= 6; index++) await stream(a).append({ id: `b${index}`, events: [`${index}`] })
      assert.equal(await stream(b).append(first), 2)
      assert.equal(await stream(a).append({ id: 'b4', events: ['4'] }), 5)
      assert.deepEqual(await stream(a).positions(), [1, 2, 3, 4, 5, 6, 7])
    }),

    it('a batch that is sent several times at once is appended once', async (handles) => {
      const { stream } = await opened(handles.a)
      const lasts = await atOnce(handles, 10, (backend) =>
        stream(backend).append({ id: 'same', events: ['1', '2', '3'] }),
      )
      assert.deepEqual(lasts, Array(10).fill(3))
      assert.deepEqual(await stream(handles.b).positions(), [1, 2, 3])
    }),

    it("a writer's last batch that is sent again changes nothing and resolves like the first time, also after the end", async ({
      a,
      b,
    }) => {
      const { stream } = await opened(a, { head: '0', writer: 'w1' })
      const first = { id: 'b1', writer: 'w1', events: ['1', '2'], after: 0 }
      const second = { id: 'b2', writer: 'w1', events: ['3'], after: 2 }
      const last = { id: 'b3', writer: 'w2', events: ['4'], after: 3, end: true }
      for (const batch of [first, second]) {
        const position = await stream(a).append(batch)
        // What only keeps the stream comes in between, and leaves the last batch the last.
        await stream(a).append({ id: 'keep', writer: 'w1', events: [], after: 0 })
        assert.equal(await stream(b).append(batch), position)
      }
      await stream(b).claim('w2', 'w1')
      assert.equal(await stream(b).append(last), 4)
      assert.equal(await stream(a).append(last), 4)
      assert.deepEqual(await stream(a).positions(), [1, 2, 3, 4])
    }),

    it("a writer's batch that comes late, when the stream has passed its `after`, is refused", async ({ a, b }) => {
      const { stream } = await opened(a, { head: '0', writer: 'w', base: 10 })
      const late = { id: 'b1', writer: 'w', events: ['1', '2'], after: 10 }
      assert.equal(await stream(a).append(late), 12)
      for (let index = 2; index <= 4; index++) {
        await stream(a).append({ id: `b${index}`, writer: 'w', events: [`${index}`], after: 10 + index })
      }
      assert.equal(await stream(b).append(late), undefined)
      assert.equal(await stream(b).append({ ...late, end: true }), undefined)
      const slice = await stream(b).slice()
      assert.deepEqual([dataOf(slice), slice.ended], [['1', '2', '2', '3', '4'], false])
    }),

    it('of a stream without a writer a batch is known until many others have followed', async (handles) => {
      const { stream } = await opened(handles.a)
      const first = { id: 'first', events: ['1', '2'] }
      await stream(handles.a).append(first)
      await atOnce(handles, RECENT_BATCHES - 1, (backend, index) =>
        stream(backend).append({ id: `b${index}`, events: ['0'] }),
      )
      // Those that only keep the stream do not count.
      for (let index = 0; index < 5; index++) await stream(handles.a).append({ id: `k${index}`, events: [] })
      assert.equal(await stream(handles.b).append(first), 2)
      assert.equal((await stream(handles.b).slice()).last, RECENT_BATCHES + 1)
    }),

    it('an empty batch under an id that was used before resolves with the last position', async ({ a, b }) => {
      const { stream } = await opened(a)
      assert.equal(await stream(a).append({ id: 'k', events: [] }), 0)
      await stream(a).append({ id: 'b1', events: ['1', '2'] })
      assert.equal(await stream(b).append({ id: 'k', events: [] }), 2)
    }),

    it(
      'a batch that is sent again after its events were removed resolves like the first time',
      async ({ a, b }) => {
        const { stream } = await opened(a)
        const first = { id: 'b1', events: ['1', '2'] }
        await stream(a).append(first)
        await stream(a).append({ id: 'b2', events: ['3', '4', '5', '6'] })
        assert.equal(await stream(b).append(first), 2)
        assert.deepEqual(await stream(a).positions(), [4, 5, 6])
      },
      { retention: { maxEvents: 3 } },
    ),

    it('a batch that was refused can be appended later under the same id', async ({ a, b }) => {
      const { stream } = await opened(a, { head: '0', writer: 'w1' })
      const batch = { id: 'b1', writer: 'w2', events: ['1'] }
      assert.equal(await stream(b).append(batch), undefined)
      assert.equal(await stream(b).append(batch), undefined)
      await stream(b).claim('w2', 'w1')
      assert.equal(await stream(b).append(batch), 1)
    }),

    it('the same batch id in another stream is another batch', async ({ a }) => {
      const { session, stream } = await opened(a)
      const other = streamOf(a, session, 'other')
      await other.open({ head: '0' })
      await stream(a).append({ id: 'b1', events: ['1', '2'] })
      assert.equal(await other.append({ id: 'b1', events: ['x'] }), 1)
      assert.deepEqual(await other.data(), ['x'])
    }),
  ]
}
