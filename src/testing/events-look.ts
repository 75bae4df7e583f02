import assert from 'node:assert/strict'
import { MAX_STREAMS, type StreamName } from '../backend/backend.js'
import { log, opened, streamOf } from './events-kit.js'
import { type ContractCase, casesOf, type Make } from './kit.js'
import { hostileTexts, PROPERTY_NAMES, randomId } from './samples.js'

/** Many streams at once: how they stand, and that they are kept. */
export function lookCases(make: Make): ContractCase[] {
  const { it } = casesOf(make)
  return [
    it('look says of each stream how it stands, in the order of the question', async ({ a, b }) => {
      const { session, stream } = await opened(a, { head: '"head"', writer: 'w', base: 5_000_000_000 })
      await stream(a).append({ id: 'b1', writer: 'w', events: ['1', '2'] })
      await stream(a).attach('r')
      await stream(a).sent(5_000_000_001)
      const done = streamOf(a, session, 'done')
      await done.open({ head: '0' })
      await done.append({ id: 'b1', events: ['1'], end: true })
      const other = randomId()
      await streamOf(a, other, 'stream').open({ head: '0' })
      const names = [
        { session: other, stream: 'done' },
        { session, stream: 'done' },
        { session: other, stream: 'stream' },
        { session, stream: 'stream' },
        { session: randomId(), stream: 'stream' },
        { session, stream: 'done' },
      ]
      const nobody = { writer: undefined, reader: undefined, sent: undefined }
      const ended = { ...nobody, first: 1, last: 1, ended: true }
      assert.deepEqual(await log(b).look(names), [
        undefined,
        ended,
        { ...nobody, first: 1, last: 0, ended: false },
        {
          writer: 'w',
          reader: 'r',
          sent: 5_000_000_001,
          first: 5_000_000_001,
          last: 5_000_000_002,
          ended: false,
        },
        undefined,
        ended,
      ])
      assert.deepEqual(await log(b).look([]), [])
      await log(b).keep([])
    }),

    it(
      'look says which is the oldest event that is kept',
      async ({ a, b }) => {
        const { session, stream } = await opened(a)
        await stream(a).append({ id: 'b1', events: ['1', '2', '3', '4', '5'] })
        const [standing] = await log(b).look([{ session, stream: 'stream' }])
        assert.deepEqual([standing?.first, standing?.last], [4, 5])
      },
      { retention: { maxEvents: 2 } },
    ),

    it('look and keep take many streams, of one session or of many, whatever their names', async ({ a, b }) => {
      const tag = randomId()
      const texts = [...new Set([...hostileTexts(tag), ...PROPERTY_NAMES.map((name) => tag + name)])]
      const names: StreamName[] = [
        ...texts.map((session, index) => ({ session, stream: texts[texts.length - 1 - index] ?? '' })),
        ...[...texts.slice(1), ...PROPERTY_NAMES].map((stream) => ({ session: `${tag}one`, stream })),
      ]
      while (names.length < MAX_STREAMS)
        names.push({ session: `${tag}many${names.length % 5}`, stream: `${names.length}` })
      await Promise.all(
        names.map(({ session, stream }, base) => streamOf(a, session, stream).open({ head: '0', base })),
      )
      await log(b).keep(names)
      const standings = await log(b).look(names)
      assert.deepEqual(
        standings.map((standing) => standing?.last),
        names.map((_, index) => index),
      )
    }),

    it('look and keep find nothing of a session that was deleted', async ({ a, b }) => {
      const { session } = await opened(a)
      const names = [{ session, stream: 'stream' }]
      await log(a).delete(session)
      await log(b).keep(names)
      assert.deepEqual(await log(b).look(names), [undefined])
    }),
  ]
}
