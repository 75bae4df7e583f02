/** Sessions, events and messages in one SQLite file: the embedded default, for one process or several on one machine. */
import type { CompleteBackend, Retention } from './backend.js'
import { checkClock, checkNames, checkNumber, checkRetention } from './options.js'
import { messageBus } from './sqlite/bus.js'
import { openDatabase } from './sqlite/database.js'
import { eventLog } from './sqlite/events.js'
import { sessionStore } from './sqlite/sessions.js'
import { startSweeper } from './sqlite/sweeper.js'

export interface SqliteOptions {
  /**
   * Path of the database, on a local disk: SQLite's locks do not work over network file systems. It is made on first use, with
   * mode 0600, and so are missing folders, with mode 0700. One that any user may read or write is refused. Files named the same plus `-wal` and `-shm` belong to it.
   */
  file: string
  /**
   * How much of streams is kept. Default: 1 hour (of one that has ended: 5 minutes), 10,000 events and 16 Mi UTF-16 code units of
   * each stream, 64 Mi of all streams of a session.
   */
  retention?: Retention
  /** The clock, in milliseconds since the epoch; all processes on the file need the same. Default `Date.now`. */
  now?: () => number
  /** Milliseconds between looks for messages of other processes, while something is subscribed; at least 1. Default 10. */
  pollInterval?: number
}

/** What {@link sqlite} returns. */
export interface SqliteBackend extends CompleteBackend {}

/**
 * A backend in a SQLite file. Needs the package `better-sqlite3`, which is loaded on first use: if it is missing, every method
 * rejects and says how to install it. Any number of processes may use one file at once.
 *
 * Sessions are on the disk before `create` and `update` resolve. Events and messages survive the death of all processes; a
 * power failure may take the last ones.
 *
 * @throws TypeError if an option cannot be right; the message says what to write. SQLite's `:memory:` is no file: use
 * `mcp-roam/memory` instead.
 *
 * @example
 * ```ts
 * import { sqlite } from 'mcp-roam/sqlite'
 *
 * const handler = createSessionHandler(factory, { backend: sqlite({ file: '/var/lib/my-server/sessions.db' }) })
 * ```
 */
export function sqlite(options: SqliteOptions): SqliteBackend {
  checkNames('sqlite', options, ['file', 'retention', 'now', 'pollInterval'])
  const { file, now = Date.now, pollInterval = 10 } = options
  if (typeof file !== 'string' || file === '' || file === ':memory:') {
    throw new TypeError(
      "sqlite: `file` must be the path of a file; write sqlite({ file: 'sessions.db' }), or for sessions in memory use mcp-roam/memory",
    )
  }
  checkClock('sqlite', now)
  checkNumber('sqlite', 'pollInterval', pollInterval)
  const retention = checkRetention('sqlite', options.retention)

  const database = openDatabase(file, now)
  const bus = messageBus(database, pollInterval)
  startSweeper(database)

  return {
    name: `sqlite:${file}`,
    sessions: sessionStore(database),
    events: eventLog(database, retention),
    bus,
    ping: () => database.ping(),
    async close() {
      await database.close()
      bus.close()
    },
  }
}
