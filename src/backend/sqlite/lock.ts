/** Waiting for the write lock, which only one process at a time can have. */
import { setTimeout as delay } from 'node:timers/promises'

/**
 * How long SQLite itself waits for the lock, in milliseconds. That wait blocks the event loop, so it is short, and
 * {@link retryWhileLocked} does the rest of the waiting.
 */
export const BLOCKING_WAIT = 20

/** How long a call waits for the lock altogether before it rejects, in milliseconds. */
const LONGEST_WAIT = 10_000

/** The longest pause between two attempts, in milliseconds. */
const LONGEST_PAUSE = 50

/**
 * Runs the work, and runs it again as long as another process has the lock. The work must be one transaction or one
 * statement, so that an attempt which fails has changed nothing.
 *
 * @throws SQLite's error with the code SQLITE_BUSY after 10 seconds; any other error at once.
 */
export async function retryWhileLocked<T>(work: () => T): Promise<T> {
  const deadline = performance.now() + LONGEST_WAIT
  for (let pause = 1; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
    try {
      return work()
    } catch (error) {
      if (!hasCode(error, 'SQLITE_BUSY') || performance.now() > deadline) throw error
    }
    // Random, so that two processes that got in each other's way do not do so again.
    await delay(pause * (0.5 + Math.random()))
  }
}

/** Whether an error has this code, or a more specific one: SQLITE_BUSY_SNAPSHOT is an SQLITE_BUSY. */
export function hasCode(error: unknown, code: string): boolean {
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) return false
  return error.code === code || error.code.startsWith(`${code}_`)
}
