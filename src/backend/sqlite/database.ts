/**
 * A SQLite file that is opened at its first use, and used without blocking the event loop while it is locked. One that is
 * deleted or replaced meanwhile is left: the call that notices rejects, and the next one opens what is at the path then.
 */
import { monotonic } from '../../util/clock.js'
import { type Connections, connect } from './client.js'
import { type Identity, identityOf, removeLeftovers, whatBecameOf } from './identity.js'
import { hasCode, retryWhileLocked } from './lock.js'

/** The longest that a file is read without a look whether the path still names it, in milliseconds. Before a write there is one. */
const CHECK_INTERVAL = 1_000

export interface Database {
  /** The clock, in milliseconds since the epoch. */
  readonly now: () => number
  /** Binds statements to the file. `prepare` runs when they are first used on its connections; until then nothing is opened. */
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

interface OpenFile {
  connections: Connections
  identity: Identity
  /** By the monotonic clock, when the path was last seen to name this file. */
  checkedAt: number
}

export function openDatabase(file: string, now: () => number): Database {
  const listeners: ((connections: Connections) => void)[] = []
  let opening: Promise<OpenFile> | undefined
  let closing: Promise<void> | undefined

  const open = async (): Promise<OpenFile> => {
    try {
      return { connections: await connect(file), identity: identityOf(file), checkedAt: monotonic() }
    } catch (error) {
      // The next call tries again: a full disk or a missing folder may be put right meanwhile.
      opening = undefined
      throw error
    }
  }

  /** The connections to the file that the path names; one that it names no more is left. */
  const opened = async (purpose: 'read' | 'write'): Promise<Connections> => {
    if (closing) throw new Error('The backend is closed.')
    opening ??= open()
    const current = opening
    const openFile = await current
    const { connections, identity, checkedAt } = openFile
    if (purpose === 'read' && monotonic() - checkedAt < CHECK_INTERVAL) return connections
    const fate = whatBecameOf(file, identity)
    if (fate === undefined) {
      openFile.checkedAt = monotonic()
      return connections
    }
    if (opening === current) {
      opening = undefined
      shut(connections)
      removeLeftovers(file, identity)
    }
    throw new Error(`The database file was ${fate} while it was in use; what is at its path now is used from here on.`)
  }

  /** Has the next call open the file anew, if these are the connections in use. */
  const leave = async (connections: Connections) => {
    const current = opening
    const openFile = await current?.catch(() => undefined)
    if (opening !== current || openFile?.connections !== connections) return
    opening = undefined
    shut(connections)
  }

  const close = async () => {
    // If opening failed there is nothing to close, and the call that opened has rejected already.
    const openFile = await opening?.catch(() => undefined)
    if (openFile) shut(openFile.connections)
  }

  return {
    now,

    statements<S>(prepare: (connections: Connections) => S): Statements<S> {
      let prepared: { on: Connections; statements: S } | undefined
      const run = <T>(connections: Connections, work: (statements: S) => T) =>
        retryWhileLocked(() => {
          if (prepared?.on !== connections) prepared = { on: connections, statements: prepare(connections) }
          return work(prepared.statements)
        })
      return {
        read: async (work) => run(await opened('read'), work),
        async write(work) {
          const connections = await opened('write')
          const result = await run(connections, work).catch(async (error) => {
            // A file that could not be written when it was opened is never written by these connections.
            if (hasCode(error, 'SQLITE_READONLY')) await leave(connections)
            throw error
          })
          for (const listener of listeners) listener(connections)
          return result
        },
      }
    },

    afterWrite(listener) {
      listeners.push(listener)
    },

    async ping() {
      const { quick } = await opened('write')
      // Any statement that reads the file will do; an open connection alone proves nothing.
      await retryWhileLocked(() => quick.pragma('data_version'))
    },

    close() {
      closing ??= close()
      return closing
    },
  }
}

function shut({ quick, durable }: Connections): void {
  quick.close()
  durable.close()
}
