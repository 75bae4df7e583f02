import { setImmediate as nextTurn } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { expect, it } from 'vitest'
import { TOMBSTONE_TTL } from '../../../src/backend/backend.js'
import { sqlite } from '../../../src/backend/sqlite.js'
import { record } from '../record.js'
import { newFile } from './files.js'

it('what has expired is removed from the file, a part at each write', async () => {
  let time = 1_000_000
  const file = newFile()
  const backend = sqlite({ file, now: () => time })
  const { sessions, events, bus } = backend
  for (let index = 0; index < 300; index++) {
    const id = `s${index}`
    await sessions.create(record(id), 1000)
    await sessions.setState(id, 'key', '1')
    await events.open(id, 'stream', { head: '0' })
    await events.append(id, 'stream', { id: 'b', events: ['1', '2'] })
    await bus.publish(id, 'message')
    await bus.beat(id, 1000)
    await sessions.delete(`unknown ${index}`)
  }
  await events.open('long', 'stream', { head: '0' })
  await events.append('long', 'stream', { id: 'b', events: Array(2000).fill('1') })

  const db = new Database(file)
  const tables = [
    'sessions',
    'state',
    'tombstones',
    'streams',
    'events',
    'batches',
    'session_weights',
    'messages',
    'nodes',
  ]
  const rows = () => tables.map((table) => Number(db.prepare(`SELECT count(*) FROM ${table}`).pluck().get()))
  expect(rows()).toEqual([300, 300, 300, 301, 2600, 301, 301, 300, 300])
  time += TOMBSTONE_TTL + 60 * 60_000
  let writes = 0
  while (rows().reduce((sum, count) => sum + count) > 1) {
    // Any write will do; sweeps come after it.
    await bus.beat('alive', 1000)
    await nextTurn()
    time += 5
    expect(writes++).toBeLessThan(40)
  }
  expect(writes).toBeGreaterThan(2)
  expect(rows()).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 1])
  db.close()
  await backend.close()
})

it('a deleted session leaves nothing in the file but its tombstone', async () => {
  const file = newFile()
  const backend = sqlite({ file })
  for (const id of ['gone', 'stays']) {
    await backend.sessions.create(record(id), 60_000)
    await backend.sessions.setState(id, 'key', '1')
    await backend.events.open(id, 'one', { head: '0' })
    await backend.events.open(id, 'two', { head: '0' })
    await backend.events.append(id, 'one', { id: 'b', events: Array(1200).fill('1') })
    await backend.events.append(id, 'two', { id: 'b', events: ['1'] })
  }
  await backend.sessions.delete('gone')
  await backend.events.delete('gone')
  const db = new Database(file)
  const rows = (table: string) => db.prepare(`SELECT count(*) FROM ${table}`).pluck().get()
  const tables = ['sessions', 'state', 'tombstones', 'streams', 'events', 'batches', 'session_weights']
  expect(tables.map(rows)).toEqual([1, 1, 1, 2, 1201, 2, 1])
  db.close()
  expect((await backend.events.read('stays', 'one', 0, 5000))?.events.length).toBe(1200)
  await backend.close()
})
