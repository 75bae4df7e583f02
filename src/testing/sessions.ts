import assert from 'node:assert/strict'
import type { SessionRecord, SessionStore } from '../backend/backend.js'
import { atOnce, BRIEF, type ContractCase, casesOf, eventually, LONG, type Make, present, recordOf } from './kit.js'
import { hostileTexts, newRecord, nextRevision, PROPERTY_NAMES, randomId, randomText } from './samples.js'

/** What a session store says of itself. */
export interface SessionStoreOptions {
  /**
   * False: the store reads and then writes, so that of two writers at once the last wins; the cases in which several
   * writers meet, or in which a stale revision must be refused, are left out. Default true.
   */
  compareAndSet?: boolean
}

/** The contract of `SessionStore`, without state. See the module's docstring for how to run it. */
export function sessionStoreContract(make: Make, options: SessionStoreOptions = {}): ContractCase[] {
  const { it, timed } = casesOf(make)
  const cases = [
    it('create stores a record that every node loads', async ({ a, b }) => {
      const record = newRecord({ principal: 'sha256:abc' })
      assert.equal(await a.sessions.create(record, LONG), true)
      assert.deepEqual(await recordOf(a, record.id), record)
      assert.deepEqual(await recordOf(b, record.id), record)
    }),

    it('load of an unknown id is undefined', async ({ a }) => {
      assert.equal(await recordOf(a, randomId()), undefined)
      assert.equal(await recordOf(a, randomText(10_000)), undefined)
      for (const name of PROPERTY_NAMES) assert.equal(await recordOf(a, name), undefined, name)
    }),

    it('create refuses a taken id and changes nothing', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      assert.equal(await b.sessions.create({ ...record, principal: 'thief' }, LONG), false)
      assert.deepEqual(await recordOf(a, record.id), record)
    }),

    timed('create that is refused leaves the expiry as it was', async ({ a, b }, race) => {
      const record = newRecord()
      await a.sessions.create(record, race.ttl)
      assert.equal(await b.sessions.create(record, LONG), false)
      race.stop()
      await gone(a.sessions, record.id)
    }),

    it('a record keeps every field, whatever JSON is in it', async ({ a, b }) => {
      const record = newRecord({
        principal: `'; DROP TABLE "sessions"; -- \\ \u2028 é 🙂 ${'{}:'}`,
        journal: {
          initialize: JSON.parse(
            '{"__proto__":{"polluted":true},"constructor":{"a":[null,1.5,-0.1,"\\u0000","\\ud83d"]}}',
          ),
          initialized: true,
          setLevel: { level: 'debug', _meta: {} },
          subscriptions: ['file:///a b', 'x:é', '', 'urn:🙂', ...hostileTexts('s')],
        },
      })
      await a.sessions.create(record, LONG)
      assert.deepEqual(await recordOf(b, record.id), record)
      assert.equal(Object.hasOwn({}, 'polluted'), false)
    }),

    it('a record of 300 KB is loaded unchanged', async ({ a, b }) => {
      const record = newRecord()
      record.journal.initialize = { ...record.journal.initialize, padding: randomText(300_000) }
      await a.sessions.create(record, LONG)
      assert.deepEqual(await recordOf(b, record.id), record)
    }),

    it('changing a record that was given or loaded does not change the stored one', async ({ a }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      const pristine = structuredClone(record)
      record.journal.subscriptions.push('given')
      const loaded = present(await recordOf(a, record.id), 'record')
      loaded.journal.subscriptions.push('loaded')
      for await (const listed of a.sessions.list()) if (listed.id === record.id) listed.journal.initialized = true
      assert.deepEqual(await recordOf(a, record.id), pristine)
    }),

    it('strange ids are kept apart', async ({ a, b }) => {
      const records = hostileTexts(randomId()).map((id, index) => newRecord({ id, createdAt: index }))
      for (const record of records) assert.equal(await a.sessions.create(record, LONG), true, record.id)
      for (const record of records) assert.deepEqual(await recordOf(b, record.id), record)
      for (const victim of records) {
        assert.ok(await b.sessions.delete(victim.id), victim.id)
        for (const other of records.slice(records.indexOf(victim) + 1)) {
          if (!(await recordOf(a, other.id))) assert.fail(`delete of ${victim.id} removed ${other.id}`)
        }
      }
    }),

    it('an id with a NUL character is kept apart from the one without, or create rejects', async ({ a }) => {
      const id = randomId()
      await a.sessions.create(newRecord({ id }), LONG)
      const other = newRecord({ id: `${id}\0` })
      const created = await a.sessions.create(other, LONG).catch(() => 'rejected')
      if (created === 'rejected') return
      assert.equal(created, true)
      assert.deepEqual(await recordOf(a, other.id), other)
      assert.equal((await recordOf(a, id))?.id, id)
    }),

    it('a record expires', async ({ a, b }) => {
      const record = newRecord()
      const stays = newRecord()
      await a.sessions.create(record, BRIEF)
      await a.sessions.create(stays, LONG)
      await gone(b.sessions, record.id)
      assert.equal(await recordOf(a, record.id), undefined)
      assert.equal(await a.sessions.update(nextRevision(record, 'late'), 1, LONG), undefined)
      assert.equal(await a.sessions.touch(record.id, LONG), false)
      assert.equal((await idsOf(b.sessions)).includes(record.id), false)
      assert.deepEqual(await recordOf(b, stays.id), stays)
    }),

    it('create accepts the id of an expired record, which was not deleted', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, BRIEF)
      await gone(a.sessions, record.id)
      const again = { ...record, principal: 'again' }
      assert.equal(await b.sessions.create(again, LONG), true)
      assert.deepEqual(await recordOf(a, record.id), again)
    }),

    it('update replaces the record for every node', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      const second = nextRevision(record, 'second')
      assert.ok(await b.sessions.update(second, 1, LONG))
      assert.deepEqual(await recordOf(a, record.id), second)
      const third = nextRevision(second, 'third')
      assert.ok(await a.sessions.update(third, 2, LONG))
      assert.deepEqual(await recordOf(b, record.id), third)
    }),

    it('update of a record that is not there is refused and creates nothing', async ({ a }) => {
      const record = newRecord()
      assert.equal(await a.sessions.update(nextRevision(record, 'x'), 1, LONG), undefined)
      assert.equal(await a.sessions.update(record, 0, LONG), undefined)
      assert.equal(await recordOf(a, record.id), undefined)
    }),

    timed('update sets the expiry, later or sooner', async ({ a, b }, race) => {
      const [longer, shorter, witness] = [newRecord(), newRecord(), newRecord()]
      await a.sessions.create(shorter, LONG)
      await a.sessions.create(longer, race.ttl)
      await a.sessions.create(witness, race.ttl)
      assert.ok(await b.sessions.update(nextRevision(longer, 'x'), 1, LONG))
      race.stop()
      assert.ok(await b.sessions.update(nextRevision(shorter, 'x'), 1, BRIEF))
      await gone(a.sessions, shorter.id)
      await gone(a.sessions, witness.id)
      assert.equal((await recordOf(a, longer.id))?.revision, 2)
    }),

    timed('touch sets the expiry, later or sooner, and nothing else', async ({ a, b }, race) => {
      const [longer, shorter, witness] = [newRecord(), newRecord(), newRecord()]
      await a.sessions.create(shorter, LONG)
      await a.sessions.create(longer, race.ttl)
      await a.sessions.create(witness, race.ttl)
      assert.equal(await b.sessions.touch(longer.id, LONG), true)
      race.stop()
      assert.equal(await b.sessions.touch(shorter.id, BRIEF), true)
      await gone(a.sessions, shorter.id)
      await gone(a.sessions, witness.id)
      assert.deepEqual(await recordOf(a, longer.id), longer)
    }),

    it('touch of a record that is not there is refused and creates nothing', async ({ a }) => {
      const id = randomId()
      assert.equal(await a.sessions.touch(id, LONG), false)
      assert.equal(await recordOf(a, id), undefined)
      assert.equal(await a.sessions.create(newRecord({ id }), LONG), true)
    }),

    it('delete is final: no node loads, updates, touches or creates the id again', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      assert.ok(await a.sessions.delete(record.id))
      for (const { sessions } of [a, b]) {
        assert.equal(await recordOf({ sessions }, record.id), undefined)
        assert.equal(await sessions.update(nextRevision(record, 'late'), 1, LONG), undefined)
        assert.equal(await sessions.touch(record.id, LONG), false)
        assert.equal(await sessions.create(record, LONG), false)
        assert.equal(await sessions.delete(record.id), undefined)
        assert.equal(await recordOf({ sessions }, record.id), undefined)
        assert.equal((await idsOf(sessions)).includes(record.id), false)
      }
    }),

    it('delete of an unknown id finds nothing, and create refuses the id all the same', async ({ a, b }) => {
      const record = newRecord()
      assert.equal(await a.sessions.delete(record.id), undefined)
      assert.equal(await b.sessions.create(record, LONG), false)
      assert.equal(await recordOf(b, record.id), undefined)
    }),

    it('delete of an expired record finds nothing', async ({ a }) => {
      const record = newRecord()
      await a.sessions.create(record, BRIEF)
      await gone(a.sessions, record.id)
      assert.equal(await a.sessions.delete(record.id), undefined)
    }),

    it('list gives every record', async ({ a, b }) => {
      const records = Array.from({ length: 250 }, (_, index) => newRecord({ createdAt: index }))
      await Promise.all(records.map((record) => a.sessions.create(record, LONG)))
      const seen = new Map<string, SessionRecord>()
      for await (const record of b.sessions.list()) seen.set(record.id, record)
      for (const record of records) assert.deepEqual(seen.get(record.id), record)
    }),

    it('list goes on while records come and go', async ({ a, b }) => {
      const stay = Array.from({ length: 120 }, () => newRecord())
      const go = Array.from({ length: 120 }, () => newRecord())
      for (const [index, record] of stay.entries()) {
        await a.sessions.create(record, LONG)
        await a.sessions.create(present(go[index], 'record'), LONG)
      }
      const seen = new Set<string>()
      for await (const record of a.sessions.list()) {
        seen.add(record.id)
        const victim = go.pop()
        if (victim) assert.ok(await b.sessions.delete(victim.id))
        if (victim) assert.equal(await b.sessions.create(newRecord(), LONG), true)
      }
      for (const record of stay) assert.equal(seen.has(record.id), true, `${record.id} was missed`)
    }),

    it('list may be left early', async ({ a }) => {
      const records = Array.from({ length: 3 }, () => newRecord())
      for (const record of records) await a.sessions.create(record, LONG)
      for await (const record of a.sessions.list()) {
        assert.equal(record.version, 1)
        break
      }
      for (const record of records) assert.ok(await a.sessions.delete(record.id))
    }),

    it('ping answers', async ({ a, b }) => {
      await a.ping?.()
      await b.ping?.()
    }),
  ]
  if (options.compareAndSet === false) return cases

  return [
    ...cases,
    it('update of another revision than the stored one is refused and changes nothing', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      const second = nextRevision(record, 'second')
      assert.equal(await a.sessions.update(second, 0, LONG), undefined)
      assert.equal(await b.sessions.update({ ...second, revision: 3 }, 2, LONG), undefined)
      assert.deepEqual(await recordOf(b, record.id), record)
      assert.ok(await a.sessions.update(second, 1, LONG))
      assert.equal(await b.sessions.update({ ...second, principal: 'stale' }, 1, LONG), undefined)
      assert.deepEqual(await recordOf(b, record.id), second)
    }),

    it('update may leave out revisions', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      const ninth = { ...nextRevision(record, 'ninth'), revision: 9 }
      assert.ok(await a.sessions.update(ninth, 1, LONG))
      assert.deepEqual(await recordOf(b, record.id), ninth)
      const far = { ...nextRevision(ninth, 'far'), revision: 2 ** 40 }
      assert.equal(await b.sessions.update({ ...far, revision: 10 }, 8, LONG), undefined)
      assert.ok(await b.sessions.update(far, 9, LONG))
      assert.ok(await a.sessions.update(nextRevision(far, 'on'), 2 ** 40, LONG))
      assert.equal((await recordOf(b, record.id))?.revision, 2 ** 40 + 1)
    }),

    it('update that is refused leaves the expiry as it was', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, BRIEF)
      assert.equal(await b.sessions.update({ ...record, revision: 7 }, 6, LONG), undefined)
      await gone(a.sessions, record.id)
    }),

    it('of several creates at once exactly one wins', async (handles) => {
      const record = newRecord()
      const outcomes = await atOnce(handles, 12, (backend, index) =>
        backend.sessions.create({ ...record, principal: `p${index}` }, LONG),
      )
      assert.equal(outcomes.filter(Boolean).length, 1)
      assert.equal((await recordOf(handles.b, record.id))?.principal, `p${outcomes.indexOf(true)}`)
    }),

    it('of several updates at once exactly one wins each revision', async (handles) => {
      let record = newRecord()
      await handles.a.sessions.create(record, LONG)
      for (let round = 0; round < 5; round++) {
        const candidates = Array.from({ length: 12 }, (_, index) => nextRevision(record, `${round}/${index}`))
        const outcomes = await atOnce(handles, candidates.length, (backend, index) =>
          backend.sessions.update(present(candidates[index], 'candidate'), record.revision, LONG),
        )
        assert.equal(outcomes.filter(Boolean).length, 1)
        record = present(candidates[outcomes.findIndex(Boolean)], 'winner')
        assert.deepEqual(await recordOf(handles.a, record.id), record)
        assert.deepEqual(await recordOf(handles.b, record.id), record)
      }
    }),

    it('nothing brings a session back that is deleted while others write it', async (handles) => {
      for (let round = 0; round < 5; round++) {
        const record = newRecord()
        await handles.a.sessions.create(record, LONG)
        const deletions = await atOnce(handles, 14, (backend, index) => {
          if (index === 5 || index === 8) return backend.sessions.delete(record.id).then(Boolean)
          if (index % 3 === 0) return backend.sessions.touch(record.id, LONG).then(() => false)
          if (index % 3 === 1) return backend.sessions.create(record, LONG).then(() => false)
          return backend.sessions.update(nextRevision(record, `${index}`), 1, LONG).then(() => false)
        })
        assert.equal(deletions.filter(Boolean).length, 1)
        assert.equal(await recordOf(handles.a, record.id), undefined)
        assert.equal(await recordOf(handles.b, record.id), undefined)
      }
    }),
  ]
}

function gone(sessions: SessionStore, id: string): Promise<void> {
  return eventually('expiry of a record', async () => (await recordOf({ sessions }, id)) === undefined)
}

async function idsOf(sessions: SessionStore): Promise<string[]> {
  const ids: string[] = []
  for await (const record of sessions.list()) ids.push(record.id)
  return ids
}
