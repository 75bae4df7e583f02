/** Connections to a SQLite file, made with `better-sqlite3`. */
import { closeSync, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type Sqlite from 'better-sqlite3'
import { ifInstalled } from '../optional.js'
import { BLOCKING_WAIT, hasCode, retryWhileLocked } from './lock.js'
import { migrate } from './schema.js'

/** Two connections to one file, which differ in what a power failure can take. */
export interface Connections {
  /**
   * For sessions and their state. `synchronous=FULL`: a commit is on the disk before it is acknowledged, so a session id
   * that was given to a client survives a power failure. Each write costs an fsync; such writes are rare (`initialize`, a
   * change of state, a touch now and then).
   */
  durable: Sqlite.Database
  /**
   * For events, messages, heartbeats and sweeping. `synchronous=NORMAL`, without an fsync: a commit survives the death of
   * this process (kill -9), but a power failure may take the last ones. Then clients miss the last events of streams whose
   * connections broke at that moment anyway. Both connections write to the same log in order: a power failure takes the end
   * of the log, and never a session that is on the disk already.
   */
  quick: Sqlite.Database
}

/** Opens the file. One that is not there is made, readable for this user only, because it holds session data. */
export async function connect(file: string): Promise<Connections> {
  const BetterSqlite = (await ifInstalled('better-sqlite3', () => import('better-sqlite3')))?.default
  if (!BetterSqlite)
    throw new Error('mcp-roam/sqlite needs a package that is not installed: npm install better-sqlite3')
  makeFile(file)
  for (const path of [file, `${file}-wal`, `${file}-shm`]) checkPrivate(path)

  const opened: Sqlite.Database[] = []
  const open = async (synchronous: 'FULL' | 'NORMAL') => {
    const db = new BetterSqlite(file, { timeout: BLOCKING_WAIT })
    opened.push(db)
    // SQLite does not wait by itself here when several processes open a new file at once.
    await retryWhileLocked(() => db.pragma('journal_mode = WAL'))
    db.pragma(`synchronous = ${synchronous}`)
    // Only macOS knows this setting; a plain fsync does not reach the disk there.
    db.pragma('fullfsync = ON')
    db.pragma('foreign_keys = ON')
    return db
  }

  try {
    const durable = await open('FULL')
    await retryWhileLocked(() => migrate(durable))
    return { durable, quick: await open('NORMAL') }
  } catch (error) {
    for (const db of opened) db.close()
    throw error
  }
}

/** Makes the file and its folders unless they are there. SQLite gives the files beside it (-wal, -shm) the same mode. */
function makeFile(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  try {
    // 'wx' fails if the file exists. Opening and closing an existing file would drop the locks that other connections of
    // this process hold on it (https://sqlite.org/howtocorrupt.html, section 2.2).
    closeSync(openSync(file, 'wx', 0o600))
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
  }
}

/**
 * Group rights may be meant, and Kubernetes gives them to all files of a volume (`fsGroup`). Rights of everybody are not: whoever
 * can read the file has the sessions' messages, whoever can write it can forge them. The mode is left as it is, because whoever
 * set it has to know what may have been read.
 *
 * @throws Error if anybody on this machine may read or write the file.
 */
function checkPrivate(path: string): void {
  // Windows has no such modes.
  if (process.platform === 'win32') return
  const mode = statSync(path, { throwIfNoEntry: false })?.mode ?? 0
  if ((mode & 0o006) === 0) return
  const shown = (mode & 0o777).toString(8).padStart(4, '0')
  throw new Error(
    `Any user of this machine may read or write ${path} (mode ${shown}), which holds sessions: chmod 600 it, or have it on a file system that keeps modes.`,
  )
}
