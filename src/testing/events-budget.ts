import assert from 'node:assert/strict'
import { STREAM_WEIGHT } from '../backend/backend.js'
import { log, streamOf } from './events-kit.js'
import { atOnce, type ContractCase, casesOf, eventually, type Handles, type Make, present } from './kit.js'
import { randomId } from './samples.js'

/** UTF-16 code units of an event that is large beside everything else. */
const EVENT = 10_000
/** What a session may have: three such events, and not four, in five streams at most. */
const BUDGET = 3 * EVENT + 5 * STREAM_WEIGHT

/** What all streams of a session may have together, and what goes first. */
export function budgetCases(make: Make): ContractCase[] {
  const { it, timed } = casesOf(make)
  const needs = { retention: { maxSessionBytes: BUDGET } }
  return [
    it(
      'beyond maxSessionBytes the events of streams that have ended go, of the one that ended first, first',
      async (handles) => {
        const session = sessionOf(handles)
        for (const name of ['first', 'second', 'third']) await session.open(name)
        // Not in the order in which they were opened.
        for (const name of ['second', 'first', 'third']) await session.append(name, [EVENT], true)
        assert.deepEqual(await session.kept('first', 'second', 'third'), [1, 1, 1])
        await session.open('running')
        await session.append('running', [EVENT])
        assert.deepEqual(await session.kept('first', 'second', 'third', 'running'), [1, 0, 1, 1])
        await session.append('running', [EVENT])
        assert.deepEqual(await session.kept('first', 'second', 'third', 'running'), [0, 0, 1, 2])
      },
      needs,
    ),

    it(
      'a stream that has ended and lost its events is still known, and says that they are gone',
      async (handles) => {
        const { a, b } = handles
        const session = sessionOf(handles)
        const handle = streamOf(b, session.id, 'done')
        await handle.open({ head: '"head"', writer: 'w', base: 5 })
        const batch = { id: 'b1', writer: 'w', events: [text(EVENT), '2'], end: true }
        assert.equal(await handle.append(batch), 7)
        await session.open('running')
        await session.append('running', [EVENT, EVENT, EVENT])
        for (const backend of [a, b]) {
          const slice = await streamOf(backend, session.id, 'done').slice()
          assert.deepEqual([slice.first, slice.last, slice.ended, slice.events], [8, 7, true, []])
          assert.deepEqual([slice.head, slice.writer], ['"head"', 'w'])
        }
        const [standing] = await log(a).look([{ session: session.id, stream: 'done' }])
        assert.deepEqual([standing?.first, standing?.last, standing?.ended], [8, 7, true])
        assert.equal(await streamOf(a, session.id, 'done').append(batch), 7)
        assert.equal(await handle.open({ head: '"other"' }), true)
        assert.equal((await handle.attach('r'))?.head, '"head"')
      },
      needs,
    ),

    it(
      'heads and streams count, too: those that have ended and have no events left go as a whole',
      async (handles) => {
        const session = sessionOf(handles)
        const heads = ['h1', 'h2', 'h3', 'h4']
        for (const name of heads) {
          await session.open(name, text(EVENT))
          await session.append(name, [1], true)
        }
        assert.deepEqual(await session.kept(...heads), [undefined, 0, 0, 1])
        const small = Array.from({ length: 2 * Math.ceil(BUDGET / STREAM_WEIGHT) }, (_, index) => `s${index}`)
        for (const name of small) {
          await session.open(name)
          await session.append(name, [], true)
        }
        const kept = await session.kept(...heads, ...small)
        assert.deepEqual(
          kept.slice(0, heads.length),
          heads.map(() => undefined),
        )
        const left = kept.filter((each) => each !== undefined)
        assert.equal(left.length, Math.floor(BUDGET / (STREAM_WEIGHT + 1)))
        assert.deepEqual(kept.slice(-left.length), left)
      },
      needs,
    ),

    it(
      'when no stream that has ended is left, others lose their oldest events, the one that was quiet for longest first',
      async (handles) => {
        const session = sessionOf(handles)
        for (const name of ['old', 'new']) await session.open(name)
        await session.append('new', [10])
        await session.append('old', [EVENT, 1])
        await session.append('new', [EVENT, 2])
        await session.append('new', [1])
        assert.deepEqual(await session.kept('old', 'new'), [2, 4])
        await session.open('done')
        await session.append('done', [EVENT], true)
        assert.deepEqual(await session.kept('old', 'new', 'done'), [2, 4, 1])
        await session.open('more')
        await session.append('more', [EVENT])
        assert.deepEqual(await session.kept('old', 'new', 'done', 'more'), [2, 4, 0, 1])
        await session.append('more', [EVENT])
        assert.deepEqual(await session.kept('old', 'new', 'done', 'more'), [1, 4, undefined, 2])
        await session.append('more', [10])
        assert.deepEqual(await session.positions('new'), [1, 2, 3, 4])
        await session.append('more', [EVENT])
        assert.deepEqual(await session.positions('new'), [3, 4])
        assert.deepEqual(await session.positions('old'), [2])
        assert.deepEqual(await session.positions('more'), [1, 2, 3, 4])
      },
      needs,
    ),

    it(
      'the newest event of a stream that has not ended stays, and of the one that is appended to, ended or not',
      async (handles) => {
        const session = sessionOf(handles)
        const names = ['s1', 's2', 's3', 's4', 's5']
        for (const name of names) await session.open(name)
        for (const name of names) await session.append(name, [10, EVENT])
        assert.deepEqual(await session.kept(...names), [1, 1, 1, 1, 1])
        await session.open('done')
        await session.append('done', [10, EVENT, EVENT], true)
        assert.deepEqual(await session.positions('done'), [3])
        await session.append('s1', [20])
        assert.deepEqual(await session.kept('done', ...names), [undefined, 1, 1, 1, 1, 1])
        assert.deepEqual(await session.positions('s1'), [3])
        assert.deepEqual(await session.positions('s2'), [2])
        await session.append('s2', [1], true)
        assert.deepEqual(await session.positions('s2'), [3])
      },
      needs,
    ),

    it(
      'events are measured in UTF-16 code units, up to exactly maxSessionBytes',
      async (handles) => {
        const session = sessionOf(handles)
        await session.open('done', '"é"')
        await streamOf(handles.a, session.id, 'done').append({ id: 'b', events: ['漢'.repeat(EVENT)], end: true })
        await session.open('more', '"🙂"')
        const left = EVENT - '"é"'.length - '"🙂"'.length
        await streamOf(handles.b, session.id, 'more').append({ id: 'b', events: ['🙂'.repeat((left - 1) / 2), 'x'] })
        assert.deepEqual(await session.kept('done', 'more'), [1, 2])
        await session.append('more', [1])
        assert.deepEqual(await session.kept('done', 'more'), [0, 3])
      },
      { retention: { maxSessionBytes: 2 * (EVENT + STREAM_WEIGHT) } },
    ),

    it(
      "what one session has is nothing to another's streams of the same name",
      async (handles) => {
        const [one, two] = [sessionOf(handles), sessionOf(handles)]
        for (const session of [one, two]) {
          await session.open('done')
          await session.append('done', [EVENT], true)
        }
        await one.open('more')
        await one.append('more', [EVENT, EVENT, EVENT])
        assert.deepEqual([await one.kept('done'), await two.kept('done')], [[0], [1]])
      },
      needs,
    ),

    it(
      'appends at once from several nodes leave no more than maxSessionBytes',
      async (handles) => {
        const session = sessionOf(handles)
        const names = Array.from({ length: 24 }, (_, index) => `s${index}`)
        await Promise.all(names.map((name) => session.open(name)))
        const lasts = await atOnce(handles, names.length, (backend, index) =>
          streamOf(backend, session.id, names[index] ?? '').append({
            id: 'b',
            events: [text(10), text(EVENT)],
            end: index % 4 !== 0,
          }),
        )
        assert.deepEqual(
          lasts,
          names.map(() => 2),
        )
        await session.open('last')
        await session.append('last', [1])
        const kept = await session.kept(...names)
        // Six have not ended, and keep their newest event; nothing else is left.
        assert.deepEqual(
          kept,
          names.map((_, index) => (index % 4 === 0 ? 1 : undefined)),
        )
      },
      needs,
    ),

    timed(
      'streams that have expired do not count',
      async (handles, race) => {
        const session = sessionOf(handles)
        for (const name of ['x1', 'x2']) await session.open(name)
        await session.append('x1', [EVENT], true)
        await session.append('x2', [10, EVENT])
        race.stop()
        await eventually('expiry', async () => (await session.kept('x1', 'x2')).every((each) => each === undefined))
        race.start()
        for (const name of ['done', 'x2', 'more']) await session.open(name)
        await session.append('done', [EVENT], true)
        await session.append('x2', [EVENT])
        await session.append('more', [EVENT])
        assert.deepEqual(await session.kept('done', 'x2', 'more'), [1, 1, 1])
      },
      (ttl) => ({ retention: { ttl, maxSessionBytes: BUDGET } }),
    ),
  ]
}

/** A new session, whose streams are written by both handles in turn. */
function sessionOf({ a, b }: Handles) {
  const id = randomId()
  let batches = 0
  const handle = (name: string) => streamOf(batches++ % 2 === 0 ? a : b, id, name)
  return {
    id,
    open: async (name: string, head = '0') => assert.equal(await handle(name).open({ head }), true),
    /** Appends events of these lengths. */
    append: async (name: string, lengths: number[], end = false) => {
      const position = await handle(name).append({ id: `b${batches}`, events: lengths.map(text), end })
      present(position, 'position')
    },
    positions: (name: string) => handle(name).positions(),
    /** How many events each stream has; undefined: there is no such stream. */
    kept: (...names: string[]) =>
      Promise.all(
        names.map(async (name) => {
          const slice = await handle(name).read(0, 100)
          assert.equal(slice?.events.length, slice && slice.last + 1 - slice.first)
          return slice?.events.length
        }),
      ),
  }
}

function text(length: number): string {
  return 'x'.repeat(length)
}
