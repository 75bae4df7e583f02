import { expect, test } from 'vitest'
import { describeWith, postgresUrl } from '../../services/use.js'
import { record } from '../record.js'
import { until, useDatabase } from './fixture.js'
import { watchedPool } from './watched-pool.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh } = useDatabase(url)

  test('each method takes one statement, once the schema is known', async () => {
    const pool = watchedPool(url)
    const { backend } = fresh({ pool })
    const { sessions, events, bus } = backend
    // Connects what listens, and what it does by itself when it has connected.
    await bus.subscribe('first', () => {})
    await until(() => pool.askedOnLine.length === 4)
    const calls: Record<string, () => Promise<unknown>> = {
      create: () => sessions.create(record('a'), 60_000),
      load: () => sessions.load('a'),
      update: () => sessions.update({ ...record('a'), revision: 2 }, 1, 60_000),
      touch: () => sessions.touch('a', 60_000),
      setState: () => sessions.setState('a', 'k', '1'),
      getState: () => sessions.getState('a', 'k'),
      open: () => events.open('a', 's', { head: '0', writer: 'w' }),
      append: () => events.append('a', 's', { id: 'b', writer: 'w', events: ['1', '2'] }),
      read: () => events.read('a', 's', 0, 10),
      attach: () => events.attach('a', 's', 'r'),
      claim: () => events.claim('a', 's', 'w2', 'w'),
      'delete streams': () => events.delete('a'),
      delete: () => sessions.delete('a'),
      subscribe: () => bus.subscribe('t', () => {}),
      publish: () => bus.publish('u', 'm'),
      'publish big': () => bus.publish('u', 'm'.repeat(20_000)),
      beat: () => bus.beat('n', 60_000),
      leave: () => bus.leave('n'),
      nodes: () => bus.nodes(),
    }
    for (const [name, call] of Object.entries(calls)) {
      // Those that prove now and then that the connection is alive do not count.
      const count = () => pool.asked.filter((text) => !/^select (1|coalesce\(max)/.test(text)).length
      const before = count()
      await call()
      expect(count() - before, name).toBe(1)
    }
  })

  test('list reads page by page, and locks nothing meanwhile', async () => {
    const { backend, schema } = fresh()
    await backend.migrate()
    await admin.query(
      `insert into ${schema}.sessions select 's' || n, 1, jsonb_build_object('id', 's' || n)::text, now() + interval '1 hour'
       from generate_series(1, 450) as n`,
    )
    const seen = new Set<string>()
    for await (const { id } of backend.sessions.list()) {
      if (seen.size === 250) await admin.query(`alter table ${schema}.sessions add column extra int`)
      expect(seen.has(id)).toBe(false)
      seen.add(id)
    }
    expect(seen.size).toBe(450)
  })
})
