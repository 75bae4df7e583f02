/** Which files a database's connections have open. A path can come to name other ones, or none, while they do. */
import { rmSync, statSync } from 'node:fs'

/** Device and inode of the database and of the files beside it; no other file has them as long as they are open. */
export interface Identity {
  database: string | undefined
  wal: string | undefined
  shm: string | undefined
}

export function identityOf(file: string): Identity {
  return { database: inode(file), wal: inode(`${file}-wal`), shm: inode(`${file}-shm`) }
}

/** What has become of a file that is open: undefined if the path still names it. */
export function whatBecameOf(file: string, { database }: Identity): 'deleted' | 'replaced' | undefined {
  const now = inode(file)
  if (now === database) return undefined
  return now === undefined ? 'deleted' : 'replaced'
}

/**
 * Removes the files that belonged to a database which is not there any more, if they still stand beside its path: SQLite would
 * take its log for that of the next database there, and apply it.
 */
export function removeLeftovers(file: string, { wal, shm }: Identity): void {
  if (wal !== undefined && inode(`${file}-wal`) === wal) rmSync(`${file}-wal`, { force: true })
  if (shm !== undefined && inode(`${file}-shm`) === shm) rmSync(`${file}-shm`, { force: true })
}

function inode(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat && `${stat.dev}:${stat.ino}`
}
