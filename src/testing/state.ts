import assert from 'node:assert/strict'
import { type Backend, OWN_STATE, type SetStateOutcome, type StateEntry, type StateLimit } from '../backend/backend.js'
import { atOnce, BRIEF, type ContractCase, casesOf, eventually, LONG, type Make, present, recordOf } from './kit.js'
import { hostileTexts, newRecord, nextRevision, PROPERTY_NAMES, randomId, randomText } from './samples.js'

/** What a store's state cannot do. */
export interface StateOptions {
  /** False: `setState` takes no account of its last argument, so a session's state has no limit. Default true. */
  limit?: boolean
}

/** The contract of `getState` and `setState`. Leave it out for a session store that has neither. */
export function stateContract(make: Make, { limit = true }: StateOptions = {}): ContractCase[] {
  return [...valueCases(make), ...(limit ? limitCases(make) : [])]
}

function valueCases(make: Make): ContractCase[] {
  const { it, timed } = casesOf(make)
  return [
    it('a value that was never set is undefined', async ({ a }) => {
      const id = await newSession(a)
      assert.equal(await get(a, id, 'key'), undefined)
      for (const name of PROPERTY_NAMES) assert.equal(await get(a, id, name), undefined, name)
      assert.equal(await get(a, randomId(), 'key'), undefined)
    }),

    it('a value that is set is seen by every node', async ({ a, b }) => {
      const id = await newSession(a)
      assert.equal(await set(a, id, 'key', '{"n":1}'), 'ok')
      const entry = present(await get(b, id, 'key'), 'value')
      assert.equal(entry.value, '{"n":1}')
      assert.equal(Number.isSafeInteger(entry.revision) && entry.revision > 0, true)
      assert.deepEqual(await get(a, id, 'key'), entry)
    }),

    it('changing an entry that was given out does not change the stored one', async ({ a }) => {
      const id = await newSession(a)
      await set(a, id, 'key', '1')
      const entry = present(await get(a, id, 'key'), 'value')
      Object.assign(entry, { value: '2', revision: entry.revision + 1 })
      assert.deepEqual(await get(a, id, 'key'), { value: '1', revision: entry.revision - 1 })
    }),

    it('expected undefined sets whatever is there', async ({ a, b }) => {
      const id = await newSession(a)
      assert.equal(await set(a, id, 'key', '1'), 'ok')
      assert.equal(await set(b, id, 'key', '2'), 'ok')
      assert.equal((await get(a, id, 'key'))?.value, '2')
    }),

    it('expected 0 sets only where there is no value', async ({ a, b }) => {
      const id = await newSession(a)
      assert.equal(await set(a, id, 'key', '1', 0), 'ok')
      const entry = await get(a, id, 'key')
      assert.equal(await set(b, id, 'key', '2', 0), 'conflict')
      assert.equal(await set(b, id, 'key', undefined, 0), 'conflict')
      assert.deepEqual(await get(a, id, 'key'), entry)
    }),

    it('an expected revision sets only that revision, and a conflict changes nothing', async ({ a, b }) => {
      const id = await newSession(a)
      assert.equal(await set(a, id, 'key', '1', 12345), 'conflict')
      assert.equal(await get(a, id, 'key'), undefined)
      await set(a, id, 'key', '1')
      const first = present(await get(a, id, 'key'), 'value')
      assert.equal(await set(b, id, 'key', '2', first.revision), 'ok')
      const second = present(await get(a, id, 'key'), 'value')
      assert.equal(await set(a, id, 'key', '3', first.revision), 'conflict')
      assert.equal(await set(a, id, 'key', undefined, first.revision), 'conflict')
      assert.deepEqual(await get(b, id, 'key'), second)
      assert.equal(second.value, '2')
    }),

    it('a value gets another revision at each change, also when it stays the same or was removed in between', async ({
      a,
      b,
    }) => {
      const id = await newSession(a)
      const revisions: number[] = []
      for (let round = 0; round < 4; round++) {
        await set(a, id, 'key', '"same"')
        revisions.push(present(await get(b, id, 'key'), 'value').revision)
        if (round % 2 === 1) await set(b, id, 'key', undefined)
      }
      assert.equal(new Set(revisions).size, revisions.length, `${revisions}`)
      assert.equal(await set(a, id, 'key', '1', revisions[0]), 'conflict')
    }),

    it('undefined removes a value', async ({ a, b }) => {
      const id = await newSession(a)
      await set(a, id, 'key', '1')
      await set(a, id, 'other', '2')
      const { revision } = present(await get(a, id, 'key'), 'value')
      assert.equal(await set(b, id, 'key', undefined, revision), 'ok')
      assert.equal(await get(a, id, 'key'), undefined)
      assert.equal((await get(a, id, 'other'))?.value, '2')
      assert.equal(await set(a, id, 'key', undefined), 'ok')
      assert.equal(await set(a, id, 'key', undefined, 0), 'ok')
      assert.equal(await set(a, id, 'key', '3', 0), 'ok')
    }),

    it('set is gone where there is no session, whatever is expected', async ({ a }) => {
      const id = randomId()
      assert.equal(await set(a, id, 'key', '1'), 'gone')
      assert.equal(await set(a, id, 'key', '1', 0), 'gone')
      assert.equal(await set(a, id, 'key', '1', 5), 'gone')
      assert.equal(await set(a, id, 'key', undefined), 'gone')
      assert.equal(await get(a, id, 'key'), undefined)
      assert.equal(await recordOf(a, id), undefined)
      assert.equal(await a.sessions.create(newRecord({ id }), LONG), true)
      assert.equal(await get(a, id, 'key'), undefined)
    }),

    it('of several sets at once that expect the same revision exactly one wins', async (handles) => {
      const id = await newSession(handles.a)
      let expected = 0
      for (let round = 0; round < 4; round++) {
        const outcomes = await atOnce(handles, 10, (backend, index) =>
          set(backend, id, 'key', `"${round}/${index}"`, expected),
        )
        assert.equal(outcomes.filter((outcome) => outcome === 'ok').length, 1)
        assert.equal(outcomes.filter((outcome) => outcome === 'conflict').length, 9)
        const entry = present(await get(handles.b, id, 'key'), 'value')
        assert.equal(entry.value, `"${round}/${outcomes.indexOf('ok')}"`)
        expected = entry.revision
      }
    }),

    it('no increment is lost when several nodes count in one value', async (handles) => {
      const id = await newSession(handles.a)
      await atOnce(handles, 6, async (backend) => {
        for (let done = 0; done < 5; ) {
          const entry = await get(backend, id, 'count')
          const outcome = await set(backend, id, 'count', `${Number(entry?.value ?? 0) + 1}`, entry?.revision ?? 0)
          if (outcome === 'ok') done++
        }
      })
      assert.equal((await get(handles.a, id, 'count'))?.value, '30')
    }),

    it('strange keys are kept apart', async ({ a, b }) => {
      const id = await newSession(a)
      const keys = [...hostileTexts('k'), ...PROPERTY_NAMES]
      for (const [index, key] of keys.entries())
        assert.equal(await set(a, id, key, JSON.stringify([index, key])), 'ok', key)
      for (const [index, key] of keys.entries()) {
        assert.equal((await get(b, id, key))?.value, JSON.stringify([index, key]))
      }
      await set(a, id, '__proto__', undefined)
      assert.equal(await get(b, id, '__proto__'), undefined)
      assert.equal(
        (await get(b, id, 'constructor'))?.value,
        JSON.stringify([keys.indexOf('constructor'), 'constructor']),
      )
    }),

    it('a key with a NUL character is kept apart from the one without, or setState rejects', async ({ a }) => {
      const id = await newSession(a)
      await set(a, id, 'key', '1')
      const outcome = await set(a, id, 'key\0', '2').catch(() => 'rejected')
      assert.equal((await get(a, id, 'key'))?.value, '1')
      if (outcome === 'ok') assert.equal((await get(a, id, 'key\0'))?.value, '2')
      else assert.equal(outcome, 'rejected')
    }),

    it("no session sees another's state, however ids and keys are joined", async ({ a, b }) => {
      const tag = randomId()
      const pairs = [
        [tag, 'b:c'],
        [`${tag}:b`, 'c'],
        [`${tag}:b:c`, ''],
        [`{${tag}}`, 'b:c'],
        [`${tag}*`, 'b:c'],
      ] as const
      for (const [id] of pairs) await a.sessions.create(newRecord({ id }), LONG)
      for (const [id, key] of pairs) await set(a, id, key, JSON.stringify(id))
      for (const [id, key] of pairs) assert.equal((await get(b, id, key))?.value, JSON.stringify(id))
      await a.sessions.delete(tag)
      for (const [id, key] of pairs.slice(1)) assert.equal((await get(b, id, key))?.value, JSON.stringify(id))
    }),

    it('a value of 300 KB is read unchanged', async ({ a, b }) => {
      const id = await newSession(a)
      const value = JSON.stringify(randomText(300_000))
      assert.equal(await set(a, id, 'big', value), 'ok')
      assert.equal((await get(b, id, 'big'))?.value, value)
    }),

    it('update of the record leaves the state, and setState leaves the record', async ({ a, b }) => {
      const record = newRecord()
      await a.sessions.create(record, LONG)
      await set(a, record.id, 'key', '1')
      const entry = await get(a, record.id, 'key')
      assert.deepEqual(await recordOf(b, record.id), record)
      assert.ok(await b.sessions.update(nextRevision(record, 'x'), 1, LONG))
      assert.deepEqual(await recordOf(a, record.id), nextRevision(record, 'x'))
      assert.deepEqual(await a.sessions.getState?.(record.id, 'key'), entry)
    }),

    it('delete removes the state, and a late setState is refused', async ({ a, b }) => {
      const id = await newSession(a)
      await set(a, id, 'key', '1')
      const { revision } = present(await get(a, id, 'key'), 'value')
      await a.sessions.delete(id)
      for (const backend of [a, b]) {
        assert.equal(await get(backend, id, 'key'), undefined)
        assert.equal(await set(backend, id, 'key', '2'), 'gone')
        assert.equal(await set(backend, id, 'key', '2', revision), 'gone')
        assert.equal(await set(backend, id, 'new', '2', 0), 'gone')
        assert.equal(await get(backend, id, 'key'), undefined)
        assert.equal(await get(backend, id, 'new'), undefined)
      }
    }),

    it('nothing brings state back that is deleted while others set it', async (handles) => {
      for (let round = 0; round < 5; round++) {
        const id = await newSession(handles.a)
        await atOnce(handles, 10, async (backend, index) => {
          if (index === 5) await backend.sessions.delete(id)
          else await set(backend, id, `key${index}`, '1')
        })
        for (let index = 0; index < 10; index++) assert.equal(await get(handles.b, id, `key${index}`), undefined)
        assert.equal(await set(handles.a, id, 'key', '1'), 'gone')
      }
    }),

    it('state expires with its record, and setting it does not make either last longer', async ({ a, b }) => {
      const id = await newSession(a, BRIEF)
      await set(a, id, 'early', '1')
      await eventually('expiry of a session whose state is set', async () => {
        const isGone = (await recordOf(a, id)) === undefined
        const outcome = await set(b, id, 'late', '1')
        if (isGone) assert.equal(outcome, 'gone')
        return isGone
      })
      assert.equal(await recordOf(a, id), undefined)
      assert.equal(await get(a, id, 'early'), undefined)
      assert.equal(await get(a, id, 'late'), undefined)
    }),

    it('a session created again after it expired has none of the old state', async ({ a, b }) => {
      const id = await newSession(a, BRIEF)
      await set(a, id, 'key', '1')
      await eventually('expiry', async () => (await recordOf(a, id)) === undefined)
      assert.equal(await b.sessions.create(newRecord({ id }), LONG), true)
      assert.equal(await get(a, id, 'key'), undefined)
      assert.equal(await set(a, id, 'key', '2', 0), 'ok')
    }),

    timed('touch and update keep the state as long as the record', async ({ a, b }, race) => {
      const touched = await newSession(a, race.ttl)
      const record = newRecord()
      await a.sessions.create(record, race.ttl)
      const witness = await newSession(a, race.ttl)
      for (const id of [touched, record.id]) await set(a, id, 'key', '1')
      assert.equal(await b.sessions.touch(touched, LONG), true)
      assert.ok(await b.sessions.update(nextRevision(record, 'x'), 1, LONG))
      race.stop()
      await eventually('expiry', async () => (await recordOf(a, witness)) === undefined)
      for (const id of [touched, record.id]) assert.equal((await get(a, id, 'key'))?.value, '1')
    }),
  ]
}

function limitCases(make: Make): ContractCase[] {
  const { it } = casesOf(make)
  return [
    it('a key beyond the limit of keys is refused, and changes nothing; one that is there may be set', async ({
      a,
      b,
    }) => {
      const id = await newSession(a)
      const limit = { keys: 2, size: LONG }
      assert.equal(await set(a, id, 'k1', '1', undefined, limit), 'ok')
      assert.equal(await set(b, id, 'k2', '1', 0, limit), 'ok')
      for (const expected of [undefined, 0]) assert.equal(await set(a, id, 'k3', '1', expected, limit), 'too-many')
      assert.equal(await get(b, id, 'k3'), undefined)
      const { revision } = present(await get(b, id, 'k2'), 'value')
      assert.equal(await set(a, id, 'k2', '22', revision, limit), 'ok')
      assert.equal(await set(a, id, 'k3', undefined, undefined, limit), 'ok')
      assert.equal(await set(b, id, 'k1', undefined, undefined, limit), 'ok')
      assert.equal(await set(b, id, 'k3', '1', undefined, limit), 'ok')
      assert.equal(await set(a, id, 'k1', '1', undefined, limit), 'too-many')
    }),

    it('keys and values may have exactly so many UTF-16 code units as the limit of size', async ({ a, b }) => {
      const id = await newSession(a)
      const limit = { keys: 10, size: 20 }
      assert.equal(await set(a, id, 'é', '"é漢🙂"', undefined, limit), 'ok')
      assert.equal(await set(b, id, '🙂', '"3456789"xy', undefined, limit), 'ok')
      const before = await get(a, id, '🙂')
      assert.equal(await set(a, id, '🙂', '"3456789"xyz', undefined, limit), 'too-large')
      assert.equal(await set(a, id, 'k', '', undefined, limit), 'too-large')
      assert.deepEqual([await get(b, id, '🙂'), await get(b, id, 'k')], [before, undefined])
      assert.equal(await set(b, id, 'é', '"ab"', undefined, limit), 'ok')
      assert.equal(await set(b, id, 'k', '12', undefined, limit), 'too-large')
      assert.equal(await set(b, id, 'k', '1', undefined, limit), 'ok')
      assert.equal(await set(a, id, '🙂', undefined, undefined, limit), 'ok')
      assert.equal(await set(a, id, 'k', '1234567890', undefined, limit), 'ok')
    }),

    it('a value that gets no longer is never refused, nor is its removal', async ({ a, b }) => {
      const id = await newSession(a)
      for (const key of ['k1', 'k2', 'k3']) await set(a, id, key, '12345')
      const limit = { keys: 1, size: 5 }
      assert.equal(await set(b, id, 'k1', '54321', undefined, limit), 'ok')
      assert.equal(await set(b, id, 'k1', '4321', undefined, limit), 'ok')
      assert.equal(await set(b, id, 'k1', '54321', undefined, limit), 'too-large')
      assert.equal(await set(a, id, 'k2', undefined, undefined, limit), 'ok')
      assert.equal(await set(a, id, 'k2', '1', undefined, limit), 'too-many')
    }),

    it('what is set without a limit counts, but for the keys of mcp-roam itself', async ({ a, b }) => {
      const id = await newSession(a)
      const limit = { keys: 2, size: 20 }
      assert.equal(await set(a, id, `${OWN_STATE}opening`, randomText(1000)), 'ok')
      assert.equal(await set(b, id, 'k1', '1', undefined, limit), 'ok')
      assert.equal(await set(b, id, 'k2', '1', undefined, limit), 'ok')
      assert.equal(await set(a, id, 'k3', '1'), 'ok')
      assert.equal(await set(a, id, `${OWN_STATE}more`, randomText(1000)), 'ok')
      assert.equal(await set(b, id, 'k4', '1', undefined, limit), 'too-many')
      assert.equal(await set(b, id, 'k3', randomText(16), undefined, { ...limit, keys: 3 }), 'too-large')
    }),

    it('a revision that is not there is a conflict, and a session that is not there gone, whatever the limit', async ({
      a,
    }) => {
      const id = await newSession(a)
      const limit = { keys: 1, size: 1 }
      await set(a, id, 'key', '1')
      assert.equal(await set(a, id, 'key', '22', 12345, limit), 'conflict')
      assert.equal(await set(a, id, 'key', '22', 0, limit), 'conflict')
      assert.equal(await set(a, id, 'other', '22', 5, limit), 'conflict')
      assert.equal(await set(a, randomId(), 'key', '22', undefined, limit), 'gone')
    }),

    it('of several keys that are set at once no more are than the limit allows', async (handles) => {
      const id = await newSession(handles.a)
      const limits: StateLimit[] = [
        { keys: 5, size: Number.POSITIVE_INFINITY },
        { keys: Number.POSITIVE_INFINITY, size: 8 * 'k10'.length },
      ]
      let there = 0
      for (const limit of limits) {
        const outcomes = await atOnce(handles, 20, (backend, index) =>
          set(backend, id, `${there > 0 ? 'l' : 'k'}${10 + index}`, '', 0, limit),
        )
        there += outcomes.filter((outcome) => outcome === 'ok').length
        assert.equal(there, limit === limits[0] ? 5 : 8)
      }
    }),

    it("another session's state does not count", async ({ a, b }) => {
      const [one, two] = [await newSession(a), await newSession(a)]
      const limit = { keys: 1, size: 5 }
      assert.equal(await set(a, one, 'key', '1', undefined, limit), 'ok')
      assert.equal(await set(b, two, 'key', '1', undefined, limit), 'ok')
    }),
  ]
}

async function newSession({ sessions }: Backend, ttl = LONG): Promise<string> {
  const record = newRecord()
  assert.equal(await sessions.create(record, ttl), true)
  return record.id
}

function get({ sessions }: Backend, id: string, key: string): Promise<StateEntry | undefined> {
  assert(sessions.getState, 'the session store has no getState')
  return sessions.getState(id, key)
}

function set(
  { sessions }: Backend,
  id: string,
  key: string,
  value: string | undefined,
  expected?: number,
  limit?: StateLimit,
): Promise<SetStateOutcome> {
  assert(sessions.setState, 'the session store has no setState')
  return sessions.setState(id, key, value, expected, limit)
}
