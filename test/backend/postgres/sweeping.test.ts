import { expect, onTestFinished, test, vi } from 'vitest'
import { startSweeper } from '../../../src/backend/postgres/sweeper.js'
import { describeWith, postgresUrl } from '../../services/use.js'
import { record } from '../record.js'
import { useDatabase } from './fixture.js'

test('sweeping goes on while batches are full, starts with the first use, and ends with close', async () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const answers = ['500', '500', '3']
  const sweeps: unknown[] = []
  const database = {
    schema: '"s"',
    used: false,
    migrate: async () => {},
    use: () => expect.unreachable(),
    query: async (...statement: unknown[]) => {
      sweeps.push(statement)
      const answer = answers.shift()
      if (!answer) throw new Error('away')
      return [[answer]]
    },
  }
  const stop = startSweeper(database)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(sweeps).toEqual([])
  database.used = true
  await vi.advanceTimersByTimeAsync(22_500)
  expect(sweeps.slice(0, 3)).toEqual(Array(3).fill(['select "s".sweep($1)::text', [500]]))
  const soFar = sweeps.length
  await vi.advanceTimersByTimeAsync(60_000)
  expect(sweeps.length).toBeGreaterThan(soFar)
  stop()
  const last = sweeps.length
  await vi.advanceTimersByTimeAsync(60_000)
  expect(sweeps.length).toBe(last)
})

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh, count, counts } = useDatabase(url)

  async function withExpiredRows() {
    const { backend, schema } = fresh()
    const { sessions, events, bus } = backend
    for (const id of ['a', 'b', 'kept']) {
      await sessions.create(record(id), 60_000)
      await sessions.setState(id, 'k', '1')
      await events.open(id, 's', { head: '0' })
      await events.append(id, 's', { id: '1', events: ['1', '2'] })
      await bus.beat(id, 60_000)
      await bus.publish(id, 'm'.repeat(10_000))
    }
    await sessions.delete('gone')
    await sessions.delete('also gone')
    await admin.query(`
      update ${schema}.sessions set expires_at = now() where id <> 'kept';
      update ${schema}.tombstones set expires_at = now() where id = 'gone';
      update ${schema}.streams set expires_at = now(), sweep_at = now() where session <> 'kept';
      update ${schema}.nodes set expires_at = now() where id <> 'kept';
      update ${schema}.messages set expires_at = now() where id < 3`)
    const sweep = async (limit: number): Promise<number> =>
      (await admin.query(`select ${schema}.sweep($1) as most`, [limit])).rows[0].most
    return { backend, schema, sweep }
  }
  const ONE_OF_EACH = {
    sessions: 1,
    tombstones: 1,
    state: 1,
    streams: 1,
    session_weights: 1,
    events: 2,
    batches: 1,
    nodes: 1,
    messages: 1,
  }

  test('a sweep removes what has expired, in batches, and nothing else', async () => {
    const { schema, sweep } = await withExpiredRows()
    expect(await sweep(1)).toBe(1)
    expect(await count(schema, 'sessions')).toBe(2)
    for (let left = 20; (await sweep(1)) > 0; left--) expect(left).toBeGreaterThan(0)
    expect(await counts(schema)).toEqual(ONE_OF_EACH)
  })

  test('a sweep does not wait for a row that another transaction holds, nor for another sweep', async () => {
    const { backend, schema, sweep } = await withExpiredRows()
    const other = await admin.connect()
    try {
      await other.query(`begin; select from ${schema}.sessions where id = 'a' for update`)
      await other.query(`select from ${schema}.streams where session = 'b' for update`)
      expect(await sweep(100)).toBe(2)
      expect(await counts(schema)).toEqual({
        ...ONE_OF_EACH,
        sessions: 2,
        state: 2,
        streams: 2,
        session_weights: 2,
        events: 4,
        batches: 2,
      })
      await other.query('commit')

      await other.query('begin')
      const { rows } = await other.query(`select ${schema}.sweep(1) as most`)
      expect(rows[0].most).toBeGreaterThan(0)
      expect(await sweep(100)).toBe(0)
      // A sweep under way locks nobody out.
      expect(await backend.sessions.create(record('new'), 60_000)).toBe(true)
      expect(await backend.sessions.touch('kept', 60_000)).toBe(true)
      await other.query('commit')
    } finally {
      other.release()
    }
    await sweep(100)
    expect(await counts(schema)).toEqual({ ...ONE_OF_EACH, sessions: 2 })
  })
})
