/** SQLite, in a folder of its own; on a small disk of its own where this machine lets us have one (root on Linux). */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
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
const DISK = 32 * 1024 * 1024

export async function startSqlite(): Promise<SqliteFile> {
  const folder = scratch()
  const disk = mount(folder)
  const file = join(disk ?? folder, 'weather.db')
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

/** An ext4 and not a tmpfs: that one lets those go on writing to an immutable file who have it open. */
function mount(folder: string): string | undefined {
  const image = join(folder, 'image')
  const disk = join(folder, 'disk')
  try {
    writeFileSync(image, Buffer.alloc(DISK))
    mkdirSync(disk)
    run('mkfs.ext4', '-q', '-m', '0', image)
    run('mount', '-o', 'loop', image, disk)
    mounted.add(disk)
    return disk
  } catch {
    return undefined
  }
}

function unmount(disk: string): void {
  mounted.delete(disk)
  // lazily: nodes that are just being killed may have files open
  run('umount', '-l', disk)
}

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: 'ignore' })
}

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
  {
    name: 'read-only 6 s',
    possible: ({ disk }) => disk !== undefined,
    async strike({ store: { file } }) {
      // A disk cannot be mounted read-only while nodes write to it, and after an error that makes it so it stays so. An
      // immutable file takes no writes from anybody, whoever opened it before, and SQLite says the same of both. The `-shm`
      // is left as it is: it is memory of the nodes, and a write to it could only end them (SIGBUS).
      const files = [file, `${file}-wal`]
      run('chattr', '+i', ...files)
      await seconds(6)
      run('chattr', '-i', ...files)
    },
  },
]
