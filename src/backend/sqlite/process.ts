/** Where this process runs, and whether another one that ran there is gone. */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/**
 * Names the set of processes that this one can see: within it, a process id means the same to all. On Linux that is the
 * running kernel's PID namespace: processes in containers have host names and process ids of their own, and virtual machines
 * that share a file number their namespaces alike. Null: not to be found out (no /proc).
 */
export function placeOf(platform = process.platform): string | null {
  if (platform !== 'linux') return hostname()
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    return `${hostname()} ${boot} ${readlinkSync('/proc/self/ns/pid')}`
  } catch {
    return null
  }
}

/**
 * Whether no process of this place has the id. Only a yes means anything: the id may have gone to another process since, and
 * a dead process keeps its own until its parent has taken note.
 */
export function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    // EPERM: it is there, and another user's.
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}
