/** Starts PostgreSQL servers from installed binaries. */
import { execFile, execFileSync } from 'node:child_process'
import { chownSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Child, discard, freePorts, type PrivateServer, scratch, untilReady, withRetries } from './children.js'

const run = promisify(execFile)

/**
 * Data must outlive the server but not the machine: commits are written, not flushed. `dynamic_shared_memory_type` keeps
 * what a killed server leaves within its folder.
 */
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  fsync: 'off',
  full_page_writes: 'off',
  max_connections: '200',
  shared_buffers: '32MB',
  dynamic_shared_memory_type: 'mmap',
  log_min_messages: 'warning',
}

/** A PostgreSQL server whose superuser needs no password, with more settings if need be. Its data survives `kill` and `restart`. */
export function launchPostgres(bin: string, more: Readonly<Record<string, string>> = {}): Promise<PrivateServer> {
  return withRetries(async () => {
    const folder = scratch()
    const user = servant()
    if (user) chownSync(folder, user.uid, user.gid)
    const data = join(folder, 'data')
    const log = join(folder, 'log')
    const [port = 0] = await freePorts(1)
    const start = async () => {
      const settings = Object.entries({ ...SETTINGS, ...more }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
      const args = ['-D', data, '-p', `${port}`, ...settings]
      const child = new Child(join(bin, 'postgres'), args, { log, cwd: folder, user })
      await untilReady(child, log, async () => readFileSync(log, 'utf8').includes('ready to accept connections'))
      return child
    }
    let child: Child
    try {
      const init = ['-D', data, '-U', 'roam', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync']
      await run(join(bin, 'initdb'), init, { cwd: folder, ...user })
      child = await start()
    } catch (error) {
      discard(folder)
      throw error
    }
    return {
      url: `postgres://roam@127.0.0.1:${port}/postgres`,
      pause: () => child.pause(),
      resume: () => child.resume(),
      kill: () => child.kill(),
      async restart() {
        await child.stop()
        child = await start()
      },
      async stop() {
        await child.stop()
        releaseSharedMemory(data)
        discard(folder)
      },
    }
  })
}

/** PostgreSQL refuses to run as root: the user to run it as then. */
function servant(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = (flag: string) => Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: 'pipe' }))
      return { uid: id('-u'), gid: id('-g') }
    } catch {
      // No such user.
    }
  }
  throw new Error('PostgreSQL does not run as root, and there is neither a user postgres nor nobody')
}

/** A server killed hard leaves a System V segment of a few bytes; it stands in the seventh line of its pid file. */
function releaseSharedMemory(data: string): void {
  const file = join(data, 'postmaster.pid')
  if (!existsSync(file)) return
  const id = readFileSync(file, 'utf8').split('\n')[6]?.trim().split(/\s+/)[1]
  try {
    if (id) execFileSync('ipcrm', ['-m', id], { stdio: 'ignore' })
  } catch {
    // Gone already, or no ipcrm here: nothing worth failing for.
  }
}
