/** Where this process runs, and whether another process that ran there has ended. */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/**
 * Names the set of processes among which a process id means the same to all. Null: it cannot be found out (no /proc).
 *
 * On Linux that is the PID namespace, because containers have process ids of their own. Its number alone would not do: virtual
 * machines that share a file number their namespaces alike. So the host's name and the id of the kernel's boot are part of it.
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
 * True: the process with this id has ended. False proves nothing: another process may have got the id since, and a process that
 * has ended keeps its id until its parent has asked for its exit code.
 */
export function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    // With EPERM, for instance, it is there and belongs to another user.
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}
