/** A SQLite file that is opened at its first use, and used without blocking the event loop while it is locked. */
import { type Connections, connect } from './client.js'
import { retryWhileLocked } from './lock.js'

export interface Database {
  /** The clock, in milliseconds since the epoch. */
  readonly now: () => number
  /** Binds statements to the file. `prepare` runs once, when they are first used; until then nothing is opened. */
  statements<S>(prepare: (connections: Connections) => S): Statements<S>
  /** Has the listener called after each write that succeeded. */
  afterWrite(listener: (connections: Connections) => void): void
  /** Rejects when the file cannot be opened or read. */
  ping(): Promise<void>
  /** Closes the connections, once what was waiting for them to open has had its turn; calls after that reject. */
  close(): Promise<void>
}

/** Runs work on prepared statements; while another process has the lock, it waits without blocking the event loop. */
export interface Statements<S> {
  /** For work that changes nothing. */
  read<T>(work: (statements: S) => T): Promise<T>
  /** For work that changes something: one transaction or one statement. */
  write<T>(work: (statements: S) => T): Promise<T>
}

export function openDatabase(file: string, now: () => number): Database {
  const listeners: ((connections: Connections) => void)[] = []
  let opening: Promise<Connections> | undefined
  let closing: Promise<void> | undefined

  const opened = async (): Promise<Connections> => {
    if (closing) throw new Error('The backend is closed.')
    opening ??= connect(file).catch((error: unknown) => {
      // The next call tries again: a full disk or a missing folder may be put right meanwhile.
      opening = undefined
      throw error
    })
    return opening
  }

  const close = async () => {
    // If opening failed there is nothing to close, and the call that opened has rejected already.
    const connections = await opening?.catch(() => undefined)
    connections?.quick.close()
    connections?.durable.close()
  }

  return {
    now,

    statements<S>(prepare: (connections: Connections) => S): Statements<S> {
      let prepared: S | undefined
      const run = <T>(connections: Connections, work: (statements: S) => T) =>
        retryWhileLocked(() => {
          prepared ??= prepare(connections)
          return work(prepared)
        })
      return {
        read: async (work) => run(await opened(), work),
        async write(work) {
          const connections = await opened()
          const result = await run(connections, work)
          for (const listener of listeners) listener(connections)
          return result
        },
      }
    },

    afterWrite(listener) {
      listeners.push(listener)
    },

    async ping() {
      const { quick } = await opened()
      // Any statement that reads the file will do; an open connection alone proves nothing.
      await retryWhileLocked(() => quick.pragma('data_version'))
    },

    close() {
      closing ??= close()
      return closing
    },
  }
}
