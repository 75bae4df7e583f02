/** A database file that is deleted or replaced while processes use it. */
import { renameSync, rmSync } from 'node:fs'
import Database from 'better-sqlite3'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { type SqliteBackend, sqlite } from '../../../src/backend/sqlite.js'
import { scripted } from '../../harness/scripted-server.js'
import { serve } from '../../harness/serve.js'
import { openSession } from '../../harness/wire-client.js'
import { until } from '../../harness/within.js'
import { record } from '../record.js'
import { newFile } from './files.js'

const MINUTE = 60_000

function open(file: string): SqliteBackend {
  const backend = sqlite({ file })
  onTestFinished(() => backend.close())
  return backend
}

/** A file with one session, and the way to have it in place of another. */
async function backup(id: string): Promise<(file: string) => void> {
  const copy = newFile()
  const backend = sqlite({ file: copy })
  await backend.sessions.create(record(id), MINUTE)
  await backend.close()
  return (file) => renameSync(copy, file)
}

const remove = (file: string) => {
  for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
}

function idsIn(file: string): unknown[] {
  const db = new Database(file)
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  const ids = db.prepare('SELECT id FROM sessions ORDER BY id').pluck().all()
  db.close()
  return ids
}

const fates: [string, 'deleted' | 'replaced', (file: string) => Promise<void>, string[]][] = [
  ['deleted with the files beside it', 'deleted', async (file) => remove(file), []],
  ['deleted by itself', 'deleted', async (file) => rmSync(file), []],
  [
    'replaced by a backup, with the files beside it',
    'replaced',
    async (file) => {
      const put = await backup('backup')
      remove(file)
      put(file)
    },
    ['backup'],
  ],
  [
    'replaced by a backup, and the files beside it left',
    'replaced',
    async (file) => (await backup('backup'))(file),
    ['backup'],
  ],
]

describe.each(fates)('a file that is %s', (_, fate, happen, left) => {
  test('is noticed before the next write, and not written to; the next call uses what is at the path', async () => {
    const file = newFile()
    const [a, b] = [open(file), open(file)]
    await a.sessions.create(record('old'), MINUTE)
    await b.bus.beat('b', MINUTE)
    await happen(file)
    await expect(a.sessions.create(record('ghost'), MINUTE)).rejects.toThrow(
      `The database file was ${fate} while it was in use`,
    )
    await expect(b.bus.beat('b', MINUTE)).rejects.toThrow(fate)
    expect(await a.sessions.load('old')).toBeUndefined()
    expect(await a.sessions.create(record('new'), MINUTE)).toBe(true)
    expect((await b.sessions.load('new'))?.record).toEqual(record('new'))
    await b.events.open('new', 's', { head: '{}' })
    expect(await a.events.append('new', 's', { id: 'b', events: ['1'] })).toBe(1)
    await Promise.all([a.close(), b.close()])
    expect(idsIn(file)).toEqual([...left, 'new'])
  })

  test('does not make its processes deaf to each other', async () => {
    const file = newFile()
    const [a, b] = [open(file), open(file)]
    const heard = vi.fn()
    await b.bus.subscribe('topic', heard)
    for (let i = 0; i < 5; i++) await a.bus.publish('topic', `before ${i}`)
    await until(() => heard.mock.calls.length === 5)
    await happen(file)
    await Promise.all([a, b].map((backend) => expect(backend.bus.beat('x', MINUTE)).rejects.toThrow(fate)))
    await a.bus.beat('a', MINUTE)
    await b.bus.beat('b', MINUTE)
    await a.bus.publish('topic', 'after')
    await until(() => heard.mock.lastCall?.[0] === 'after')
    expect((await a.bus.nodes()).sort()).toEqual(['a', 'b'])
  })
})

test('a file is read for a second at most after it was deleted', async () => {
  const file = newFile()
  const backend = open(file)
  await backend.sessions.create(record('old'), MINUTE)
  remove(file)
  const begin = performance.now()
  await expect
    .poll(() => backend.sessions.load('old').catch(String), { timeout: 5000, interval: 20 })
    .toMatch('deleted')
  expect(performance.now() - begin).toBeLessThan(2000)
})

test('a file that is moved back is the same one', async () => {
  const file = newFile()
  const backend = open(file)
  await backend.sessions.create(record('old'), MINUTE)
  for (const suffix of ['', '-wal', '-shm']) renameSync(file + suffix, `${file}.away${suffix}`)
  for (const suffix of ['', '-wal', '-shm']) renameSync(`${file}.away${suffix}`, file + suffix)
  expect(await backend.sessions.create(record('new'), MINUTE)).toBe(true)
  expect((await backend.sessions.load('old'))?.record).toEqual(record('old'))
})

test('a node answers 503 once, says why, and then that its sessions are gone', async () => {
  const file = newFile()
  const onerror = vi.fn((_: Error) => {})
  const handler = serve(scripted(), { backend: open(file), onerror })
  const client = await openSession(handler)
  remove(file)
  expect(await handler.status()).toMatchObject({ ready: false, backend: 'unavailable' })
  expect(onerror.mock.calls.map(([{ cause }]) => (cause as Error)?.message)).toContainEqual(
    expect.stringContaining('The database file was deleted while it was in use'),
  )
  expect(await handler.status()).toMatchObject({ ready: true, backend: 'available' })
  expect((await client.request('logging/setLevel', { level: 'debug' })).status).toBe(404)
  expect((await openSession(handler)).sessionId).toBeDefined()
})
