import pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { postgres } from '../../../src/backend/postgres.js'
import { describeWith, postgresUrl, unique } from '../../services/use.js'
import { arrival, until, useDatabase } from './fixture.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh, count } = useDatabase(url)

  test('messages too big for NOTIFY go through a table, in order with the others', async () => {
    const { backend, schema } = fresh()
    const room = 8000 - '=1:t'.length - 1
    const messages = [
      'm'.repeat(room),
      'm'.repeat(room + 1),
      'é'.repeat(room / 2 + 1),
      'small',
      'x'.repeat(2_000_000),
      'last',
    ]
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    for (const message of messages) await backend.bus.publish('t', message)
    await until(() => received.length === messages.length)
    expect(received.map((message) => message.length)).toEqual(messages.map((message) => message.length))
    expect(received).toEqual(messages)
    expect(await count(schema, 'messages')).toBe(3)
  })

  test('a message whose body is gone, and a notification that is none of ours, are dropped; the next message arrives', async () => {
    const { backend, schema } = fresh()
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    for (const payload of ['@12345:t', '@99999999999999999999:t', '', '=', '=99:t', 'nonsense', '@x:t']) {
      await admin.query('select pg_notify($1, $2)', [schema, payload])
    }
    await backend.bus.publish('t', 'next')
    await until(() => received.length > 0)
    expect(received).toEqual(['next'])
  })

  test('a node without a subscriber of the topic does not fetch the body of a message', async () => {
    const { backend, schema } = fresh()
    const idle = fresh({ schema }).backend
    const marker = arrival()
    await idle.bus.subscribe('other', marker.resolve)
    await backend.bus.publish('t', 'm'.repeat(10_000))
    const fetched = async () =>
      Number(
        (
          await admin.query(
            `select coalesce(sum(idx_scan), 0) as n from pg_stat_all_tables where schemaname = $1 and relname = 'messages'`,
            [schema],
          )
        ).rows[0].n,
      )
    await backend.bus.publish('other', '')
    await marker.promise
    expect(await fetched()).toBe(0)
  })

  test('a listening connection that breaks is replaced by itself', async () => {
    const { backend, schema } = fresh()
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    const listeners = async (): Promise<number[]> => {
      const text = `select pid from pg_stat_activity where state = 'idle' and query = 'listen "${schema}"'`
      return (await admin.query(text)).rows.map(({ pid }) => pid)
    }
    const [first] = await listeners()
    await admin.query('select pg_terminate_backend($1)', [first])
    await until(async () => (await listeners()).some((pid) => pid !== first))
    await backend.bus.publish('t', 'after')
    await until(() => received.includes('after'))
    expect(received).toEqual(['after'])
  })

  test('listenUrl is where the listening connection goes', async () => {
    const pool = new pg.Pool({ connectionString: url, max: 1 })
    onTestFinished(() => pool.end())
    const alone = postgres({ pool, schema: unique() })
    await expect(alone.bus.subscribe('t', () => {})).rejects.toThrow('`listenUrl`')
    await alone.close()
    const { backend } = fresh({ pool, listenUrl: url })
    const arrived = arrival()
    await backend.bus.subscribe('t', arrived.resolve)
    await backend.bus.publish('t', 'hello')
    expect(await arrived.promise).toBe('hello')
  })
})
