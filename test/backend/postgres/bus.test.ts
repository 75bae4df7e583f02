import pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { channelOf } from '../../../src/backend/postgres/messages.js'
import { postgres } from '../../../src/backend/postgres.js'
import { describeWith, postgresUrl, unique } from '../../services/use.js'
import { arrival, until, useDatabase } from './fixture.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh } = useDatabase(url)

  test('messages of any size arrive, in order', async () => {
    const { backend } = fresh()
    const messages = ['first', 'é'.repeat(5_000), ...Array(4).fill('x'.repeat(2_000_000)), '', 'last']
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    for (const message of messages) await backend.bus.publish('t', message)
    await until(() => received.length === messages.length)
    expect(received.map((message) => message.length)).toEqual(messages.map((message) => message.length))
    expect(received).toEqual(messages)
  })

  test('what came together is read together, but not more at once than a few megabytes', async () => {
    const { backend, schema } = fresh()
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    const messages = ['a', 'b', 'c', 'd', 'e'].map((letter) => letter.repeat(3_000_000))
    await admin.query(
      `select ${schema}.publish($1, letter, 7000) from unnest($2::text[]) with ordinality as m (letter, n) order by n`,
      [channelOf(schema, 't'), messages],
    )
    await until(() => received.length === messages.length)
    expect(received.map(([letter]) => letter).join('')).toBe('abcde')
  })

  test('a message that was swept before anybody read it is dropped; the next one arrives', async () => {
    const { backend, schema } = fresh()
    const received: string[] = []
    await backend.bus.subscribe('t', (message) => received.push(message))
    await admin.query(`select ${schema}.publish($1, 'expired', 0)`, [channelOf(schema, 't')])
    await backend.bus.publish('t', 'next')
    await until(() => received.length > 0)
    expect(received).toEqual(['next'])
  })

  test('after the schema was dropped and made again everything goes on', async () => {
    const { backend, schema } = fresh()
    const received: string[] = []
    for (let i = 0; i < 5; i++) await backend.bus.publish('t', 'early')
    await backend.bus.subscribe('t', (message) => received.push(message))
    await admin.query(`drop schema ${schema} cascade`)
    await expect(backend.bus.publish('t', 'lost')).rejects.toThrow()
    await until(async () => {
      await backend.bus.publish('t', 'again')
      return received.length > 0
    })
    expect(new Set(received)).toEqual(new Set(['again']))
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
