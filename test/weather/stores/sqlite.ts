/** SQLite, in a folder of its own; on a small disk of its own where this machine lets us have one (root on Linux). */
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { discard, scratch } from '../../services/children.js'
import { type Fault, seconds } from '../fault.js'
import type { Store } from '../store.js'

export interface SqliteFile extends Store {
  file: string
  /** Where the disk that holds it is; undefined: on the machine's own. */
  disk: string | undefined
}

/** In bytes. */
const DISK = 24 * 1024 * 1024

export async function startSqlite(): Promise<SqliteFile> {
  const folder = scratch()
  const disk = mount(folder)
  const file = join(folder, 'weather.db')
  return {
    file,
    disk,
    ports: [],
    address: () => ({ kind: 'sqlite', file }),
    async stop() {
      if (disk) unmount(disk)
      discard(folder)
    },
  }
}

const mounted = new Set<string>()
process.once('exit', () => {
  for (const folder of mounted) unmount(folder)
})

function mount(folder: string): string | undefined {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK}`, 'weather', folder], { stdio: 'ignore' })
    mounted.add(folder)
    return folder
  } catch {
    return undefined
  }
}

function unmount(folder: string): void {
  mounted.delete(folder)
  // lazily: nodes that are just being killed may have files open
  execFileSync('umount', ['-l', folder], { stdio: 'ignore' })
}

/** Read-only is not here: a file system cannot be made so while nodes write to it, and root may write to any file. */
export const SQLITE_FAULTS: readonly Fault<SqliteFile>[] = [
  {
    name: 'database locked 6 s',
    async strike({ store }) {
      const other = new Database(store.file)
      other.exec('BEGIN EXCLUSIVE')
      await seconds(6)
      other.exec('ROLLBACK')
      other.close()
    },
  },
  {
    name: 'disk full 6 s',
    possible: ({ disk }) => disk !== undefined,
    async strike({ store }) {
      const ballast = join(store.disk ?? '', 'ballast')
      try {
        // more than there is room for
        writeFileSync(ballast, Buffer.alloc(DISK))
      } catch {
        // what did fit in is there, and the disk is full
      }
      await seconds(6)
      rmSync(ballast)
    },
  },
]
