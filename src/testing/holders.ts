import assert from 'node:assert/strict'
import type { Backend, Held } from '../backend/backend.js'
import { atOnce, type ContractCase, casesOf, LONG, type Make, present } from './kit.js'
import { hostileTexts, newRecord, nextRevision, randomId } from './samples.js'

/** The contract of holders. Leave it out for a session store that does not keep them. */
export function holdersContract(make: Make): ContractCase[] {
  const { it } = casesOf(make)
  return [
    it('create names the first holder, or none', async ({ a, b }) => {
      const [held, free] = [newRecord(), newRecord()]
      await a.sessions.create(held, LONG, 'one:1')
      await a.sessions.create(free, LONG)
      assert.deepEqual(await holdersOf(b, held.id), ['one:1'])
      assert.deepEqual(await holdersOf(b, free.id), [])
    }),

    it('create that is refused names nobody', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG, 'one:1')
      assert.equal(await b.sessions.create(record, LONG, 'two:1'), false)
      assert.deepEqual(await holdersOf(a, record.id), ['one:1'])
    }),

    it('load adds the holder that it names, once, and resolves with all of them', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG, 'one:1')
      for (const _ of [1, 2]) {
        const loaded = present(await b.sessions.load(record.id, 'two-_:22'), 'session')
        assert.deepEqual(loaded.record, record)
        assert.deepEqual(sorted(loaded), ['one:1', 'two-_:22'])
      }
      // A name that is part of another one.
      await a.sessions.load(record.id, 'two-_:2')
      assert.deepEqual(await holdersOf(a, record.id), ['one:1', 'two-_:2', 'two-_:22'])
    }),

    it('load of a session that is not there makes nobody a holder of it', async ({ a, b }) => {
      const record = newRecord()
      assert.equal(await a.sessions.load(record.id, 'one:1'), undefined)
      assert.equal(await b.sessions.create(record, LONG), true)
      assert.deepEqual(await holdersOf(a, record.id), [])
    }),

    it('look tells how each session stands, in its place', async ({ a, b }) => {
      const records = Array.from({ length: 20 }, (_, index) => newRecord({ createdAt: index }))
      for (const record of records) await a.sessions.create(record, LONG, 'one:1')
      await b.sessions.update(nextRevision(present(records[3], 'record'), 'x'), 1, LONG)
      await b.sessions.load(present(records[4], 'record').id, 'two:1')
      await b.sessions.delete(present(records[5], 'record').id)
      const ids = records.map(({ id }) => id)
      const look = await a.sessions.look?.([randomId(), ...ids, ...hostileTexts('s')])
      if (look === undefined) return
      assert.equal(look.length, 21 + hostileTexts('s').length)
      assert.equal(look[0], undefined)
      assert.deepEqual(look[1], { revision: 1, holders: ['one:1'] })
      assert.deepEqual(look[4], { revision: 2, holders: ['one:1'] })
      assert.deepEqual(sorted(present(look[5], 'session')), ['one:1', 'two:1'])
      assert.equal(look[6], undefined)
      assert.deepEqual(
        look.slice(21),
        hostileTexts('s').map(() => undefined),
      )
      assert.deepEqual(await a.sessions.look?.([]), [])
    }),

    it('release takes names out, and nothing else', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG, 'one:1')
      for (const name of ['one:11', 'two:1', 'three:1']) await a.sessions.load(record.id, name)
      await b.sessions.release?.(record.id, ['one:1', 'three:1', 'nobody:1'])
      assert.deepEqual(await holdersOf(a, record.id), ['one:11', 'two:1'])
      await a.sessions.release?.(randomId(), ['one:1'])
      await a.sessions.release?.(record.id, ['one:11', 'two:1'])
      assert.deepEqual(await b.sessions.load(record.id), { record, holders: [] })
    }),

    it('update and delete resolve with the holders; an update keeps them', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG, 'one:1')
      await b.sessions.load(record.id, 'two:1')
      const updated = nextRevision(record, 'x')
      assert.deepEqual(sorted(present(await a.sessions.update(updated, 1, LONG), 'update')), ['one:1', 'two:1'])
      await a.sessions.touch(record.id, LONG)
      assert.deepEqual(await holdersOf(b, record.id), ['one:1', 'two:1'])
      assert.deepEqual(sorted(present(await b.sessions.delete(record.id), 'delete')), ['one:1', 'two:1'])
    }),

    it('whoever loads a record while it changes is told of the change, or sees it', async (handles) => {
      for (let round = 0; round < 8; round++) {
        const record = newRecord()
        await handles.a.sessions.create(record, LONG)
        const second = nextRevision(record, 'second')
        let told: Held | undefined
        const loaded = await atOnce(handles, 12, async (backend, index) => {
          if (index !== 5) return backend.sessions.load(record.id, `node:${index}`)
          told = await backend.sessions.update(second, 1, LONG)
          return undefined
        })
        const { holders = [] } = present(told, 'update')
        for (const [index, session] of loaded.entries()) {
          if (index === 5) continue
          const knows = session?.record.revision === 2 || holders.includes(`node:${index}`)
          assert.ok(knows, `load ${index} saw revision ${session?.record.revision}, and ${holders} were told`)
        }
        assert.equal((await holdersOf(handles.b, record.id)).length, 11)
      }
    }),

    it('whoever loads a record while it is deleted is told, or finds nothing', async (handles) => {
      for (let round = 0; round < 8; round++) {
        const record = newRecord()
        await handles.a.sessions.create(record, LONG)
        let told: Held | undefined
        const loaded = await atOnce(handles, 12, async (backend, index) => {
          if (index !== 5) return backend.sessions.load(record.id, `node:${index}`)
          told = await backend.sessions.delete(record.id)
          return undefined
        })
        const { holders = [] } = present(told, 'delete')
        for (const [index, session] of loaded.entries()) {
          if (session) assert.ok(holders.includes(`node:${index}`), `load ${index} was not told`)
        }
        assert.equal(await handles.a.sessions.load(record.id, 'late:1'), undefined)
      }
    }),
  ]
}

async function holdersOf({ sessions }: Backend, id: string): Promise<string[]> {
  return sorted(present(await sessions.load(id), 'session'))
}

function sorted({ holders }: Held): string[] {
  return [...present(holders, 'holders')].sort()
}
