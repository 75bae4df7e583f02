import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type Database from 'better-sqlite3'
import { migrate } from './schema.js'

/** Two connections to one file, which differ in what a power failure can take. */
export interface Connections {
  /**
   * For sessions and their state. `synchronous=FULL`: a commit is on the disk before it is acknowledged, so a session id
   * that a client was given holds whatever happens. Costs an fsync for each write; those are rare (initialize, a change of
   * state, a touch now and then).
   */
  durable: Database.Database
  /**
   * For events, messages, heartbeats and sweeping. `synchronous=NORMAL`: a commit is in the operating system's hands, so it
   * survives this process's death (kill -9), but a power failure may take the last ones back: clients then miss the last
   * events of streams whose connections broke at that moment anyway. Costs no fsync. Both connections write the same log, in
   * order: whatever a failure takes is a suffix, and a session that was made durable is never in it.
   */
  quick: Database.Database
}

/**
 * How long SQLite itself may wait for another process's write lock. Waiting there blocks this process's event loop, so it is
 * short, and {@link patiently} goes on waiting without blocking.
 */
const LOCK_WAIT = 20
/** How long a call waits for the lock altogether before it rejects. */
const PATIENCE = 10_000

/** Opens the file, which is made if need be, for this user only: it holds session data. */
export async function connect(file: string): Promise<Connections> {
  const Sqlite = await importSqlite()
  make(file)

  const opened: Database.Database[] = []
  const open = async (synchronous: 'FULL' | 'NORMAL') => {
    const db = new Sqlite(file, { timeout: LOCK_WAIT })
    opened.push(db)
    // Several processes that open a new file at once get in each other's way here, without SQLite waiting by itself.
    await patiently(() => db.pragma('journal_mode = WAL'))
    db.pragma(`synchronous = ${synchronous}`)
    // On macOS alone: there, a plain fsync does not reach the disk.
    db.pragma('fullfsync = ON')
    db.pragma('foreign_keys = ON')
    return db
  }

  try {
    const durable = await open('FULL')
    await patiently(() => migrate(durable))
    return { durable, quick: await open('NORMAL') }
  } catch (error) {
    for (const db of opened) db.close()
    throw error
  }
}

/** Makes the file and its folders unless they are there. SQLite gives the files beside it (-wal, -shm) the same mode. */
function make(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  try {
    // Exclusively: to close a descriptor of a file that is there would drop the locks that this process's other connections
    // hold on it (https://sqlite.org/howtocorrupt.html, section 2.2).
    closeSync(openSync(file, 'wx', 0o600))
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
  }
}

/** Does the work, again and again while another process holds the lock. The work must be one transaction or one statement. */
export async function patiently<T>(work: () => T): Promise<T> {
  const deadline = performance.now() + PATIENCE
  for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
    try {
      return work()
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error
    }
    // By chance, so that processes which collided do not collide again.
    await pause(wait * (0.5 + Math.random()))
  }
}

function isBusy(error: unknown): boolean {
  return hasCode(error, 'SQLITE_BUSY')
}

/** Whether an error has the code, or one that begins with it and an underscore. */
function hasCode(error: unknown, code: string): boolean {
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) return false
  return error.code === code || error.code.startsWith(`${code}_`)
}

async function importSqlite(): Promise<typeof Database> {
  try {
    return (await import('better-sqlite3')).default
  } catch (error) {
    if (!hasCode(error, 'ERR_MODULE_NOT_FOUND')) throw error
    throw new Error('mcp-roam/sqlite needs a package that is not installed: npm install better-sqlite3', {
      cause: error,
    })
  }
}
