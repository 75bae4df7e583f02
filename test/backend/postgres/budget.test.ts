import { expect, test } from 'vitest'
import { STREAM_WEIGHT } from '../../../src/backend/backend.js'
import { describeWith, postgresUrl } from '../../services/use.js'
import { record } from '../record.js'
import { useDatabase } from './fixture.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh, count } = useDatabase(url)

  async function total(schema: string): Promise<number> {
    const { rows } = await admin.query(`select total::int from "${schema}".session_weights`)
    return rows[0]?.total ?? 0
  }

  test('what nodes of 0.1.0 append is counted by the next append of this version, and all of it is subtracted with the stream', async () => {
    const { backend, schema } = fresh({ retention: { maxSessionBytes: 10_000 } })
    const { events } = backend
    await backend.migrate()
    await admin.query(`select "${schema}".open_stream('a', 's', '{}', null, 0, 60000)`)
    const old = (batch: string) =>
      admin.query(`select "${schema}".append('a', 's', $1, null, $2, 1, 3000, false, 60000, 10000, 100000)`, [
        batch,
        JSON.stringify([{ p: 1, s: 0, d: 'x'.repeat(3000) }]),
      ])
    await old('b1')
    expect(await total(schema)).toBe(0)
    expect(await events.append('a', 's', { id: 'b2', events: ['y'.repeat(1000)] })).toBe(2)
    expect(await total(schema)).toBe(STREAM_WEIGHT + 4000)
    await old('b3')
    await old('b4')
    expect(await events.append('a', 's', { id: 'b5', events: ['1'] })).toBe(5)
    expect((await events.read('a', 's', 0, 10))?.first).toBe(2)
    expect(await total(schema)).toBe(STREAM_WEIGHT + 7001)
    await admin.query(`select "${schema}".delete_streams('a', 60000)`)
    expect(await count(schema, 'session_weights')).toBe(0)
  })

  test('an append changes nothing that has an index, so that its row stays in its page', async () => {
    const { backend, schema } = fresh()
    const { events } = backend
    await events.open('a', 's', { head: '{}', writer: 'w' })
    for (let index = 0; index < 10; index++) {
      await events.append('a', 's', { id: `${index}`, writer: 'w', events: ['1'] })
    }
    const hot = async (table: string) => {
      const { rows } = await admin.query(
        'select n_tup_upd::int as all, n_tup_hot_upd::int as hot from pg_stat_all_tables where schemaname = $1 and relname = $2',
        [schema, table],
      )
      return rows[0]
    }
    await expect.poll(() => hot('session_weights'), { timeout: 20_000 }).toEqual({ all: 9, hot: 9 })
    await expect.poll(async () => (await hot('streams')).all, { timeout: 20_000 }).toBe(10)
    // One when its row is first weighed, and one when the minute of its sweep changes.
    expect((await hot('streams')).hot).toBeGreaterThanOrEqual(8)
  })

  test('appends, deletions and sweeps at once never wait for each other in a circle', async () => {
    const { backend, schema } = fresh({ retention: { maxSessionBytes: 20_000 } })
    const { sessions, events } = backend
    const other = fresh({ schema, retention: { maxSessionBytes: 20_000 } }).backend
    const problems: unknown[] = []
    for (let round = 0; round < 5; round++) {
      const session = `s${round}`
      await sessions.create(record(session), 60_000)
      const work = Array.from({ length: 60 }, async (_, index) => {
        const log = (index % 2 ? backend : other).events
        const stream = `${index % 12}`
        const names = Array.from({ length: 12 }, (_, n) => ({ session, stream: `${n}` }))
        await log.open(session, stream, { head: '{}' })
        await log.append(session, stream, { id: `${index}`, events: ['x'.repeat(3000), 'y'], end: index % 5 === 4 })
        await log.keep(names)
        await log.attach(session, stream, 'r')
        if (index === 50) await log.delete(session)
        if (index % 20 === 0) await admin.query(`select "${schema}".sweep(100)`)
      })
      const settled = await Promise.allSettled(work)
      problems.push(...settled.filter(({ status }) => status === 'rejected'))
      await events.delete(session)
    }
    expect(problems).toEqual([])
    expect(await count(schema, 'streams')).toBe(0)
    expect(await count(schema, 'session_weights')).toBe(0)
  })

  test('nodes of 0.1.0 set state without its size, which is measured', async () => {
    const { backend, schema } = fresh()
    const { sessions } = backend
    await sessions.create(record('a'), 60_000)
    await admin.query(`select "${schema}".set_state('a', 'old', '"1234"', null)`)
    const limit = { keys: 10, size: 20 }
    expect(await sessions.setState('a', 'new', '"12345678"', undefined, limit)).toBe('too-large')
    expect(await sessions.setState('a', 'new', '"123456"', undefined, limit)).toBe('ok')
  })
})
