/** A database file that takes no writes for a while: what was not written is not acknowledged, and later it is written again. */
import Database from 'better-sqlite3'
import { expect, onTestFinished, test, vi } from 'vitest'
import { type SqliteBackend, sqlite } from '../../../src/backend/sqlite.js'
import { record } from '../record.js'
import { newFile } from './files.js'

const MINUTE = 60_000

const disk = vi.hoisted(() => ({ isReadOnly: false }))

// SQLite opens a file that it may not write for reading.
vi.mock('better-sqlite3', async (original) => {
  const { default: Real } = await original<{ default: typeof Database }>()
  class Fallback extends Real {
    constructor(file: string, options?: Database.Options) {
      super(file, { ...options, readonly: disk.isReadOnly })
    }
  }
  return { default: Fallback }
})

function open(file: string): SqliteBackend {
  const backend = sqlite({ file })
  onTestFinished(() => backend.close())
  return backend
}

test('an update whose commit fails rejects, and changes nothing', async () => {
  const file = newFile()
  const { sessions } = open(file)
  await sessions.create(record('s'), MINUTE)
  const db = new Database(file)
  // A constraint that is looked at when all is done, as a disk that is full or read-only is.
  db.exec(`
    CREATE TABLE known (id INTEGER PRIMARY KEY);
    CREATE TABLE unknown (id INTEGER REFERENCES known DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER spoil AFTER UPDATE OF revision ON sessions BEGIN INSERT INTO unknown VALUES (1); END;
  `)
  db.close()
  await expect(sessions.update({ ...record('s'), revision: 2 }, 1, MINUTE)).rejects.toThrow('FOREIGN KEY')
  expect((await sessions.load('s'))?.record.revision).toBe(1)
})

test('a file that was read-only when it was opened is written as soon as it can be', async () => {
  const file = newFile()
  const first = open(file)
  await first.sessions.create(record('s'), MINUTE)
  const second = open(file)
  disk.isReadOnly = true
  onTestFinished(() => {
    disk.isReadOnly = false
  })
  await expect(second.sessions.touch('s', MINUTE)).rejects.toThrow('readonly')
  disk.isReadOnly = false
  expect(await second.sessions.touch('s', MINUTE)).toBe(true)
})
