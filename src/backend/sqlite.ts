/** Sessions, events and messages in one SQLite file: the embedded default, for one process or several on one machine. */
import { setImmediate as turn } from 'node:timers/promises'
import { type Backend, DEFAULT_RETENTION, type Retention } from './backend.js'
import { prepareBus } from './sqlite/bus.js'
import { connect, patiently } from './sqlite/client.js'
import { prepareEvents } from './sqlite/events.js'
import { prepareSessions } from './sqlite/sessions.js'
import { Subscriptions } from './sqlite/subscriptions.js'
import { Sweeper } from './sqlite/sweeper.js'

export interface SqliteOptions {
  /**
   * Path of the database, on a local disk: SQLite's locks do not work over network file systems. It is made on first use, with
   * mode 0600, and so are missing folders, with mode 0700; files named the same plus `-wal` and `-shm` belong to it.
   */
  file: string
  /** How much of each stream is kept. Default: 1 hour, 10,000 events, 16 Mi UTF-16 code units. */
  retention?: Retention
  /** The clock, in milliseconds since the epoch; all processes on the file need the same. Default `Date.now`. */
  now?: () => number
  /** Milliseconds between looks for messages of other processes; only while something is subscribed. Default 10. */
  pollInterval?: number
}

/**
 * A backend in a SQLite file. Needs the package `better-sqlite3`, which is loaded on first use: if it is missing, every method
 * rejects and says how to install it. Any number of processes may use one file at once.
 *
 * Sessions are on the disk before `create` and `update` resolve. Events and messages survive the death of all processes; a
 * power failure may take the last ones.
 *
 * @throws TypeError if `file` is not the path of a file (SQLite's `:memory:` included: use `mcp-roam/memory`).
 * @example
 * ```ts
 * const handler = createSessionHandler(factory, { backend: sqlite({ file: '/var/lib/my-server/sessions.db' }) })
 * ```
 */
export function sqlite(options: SqliteOptions): Backend {
  const { file, now = Date.now, pollInterval = 10 } = options
  if (file === '' || file === ':memory:')
    throw new TypeError('sqlite needs a file; for sessions in memory use mcp-roam/memory')
  const retention = { ...DEFAULT_RETENTION, ...options.retention }

  const open = async () => {
    const { durable, quick } = await connect(file)
    const bus = prepareBus(quick, now)
    const events = prepareEvents(quick, now, retention)
    return {
      sessions: prepareSessions(durable, now),
      events,
      bus,
      subscriptions: new Subscriptions(bus, pollInterval),
      sweeper: new Sweeper(quick, now, events.sweep),
      close() {
        this.subscriptions.close()
        quick.close()
        durable.close()
      },
    }
  }
  type Opened = Awaited<ReturnType<typeof open>>

  let opening: Promise<Opened> | undefined
  let isClosed = false
  const opened = async () => {
    if (isClosed) throw new Error('The backend is closed.')
    opening ??= open().catch((error: unknown) => {
      // What is wrong may be put right (a full disk, a missing folder): the next call tries again.
      opening = undefined
      throw error
    })
    return opening
  }
  const read = async <T>(work: (db: Opened) => T): Promise<T> => {
    const db = await opened()
    return patiently(() => work(db))
  }
  const write = async <T>(work: (db: Opened) => T): Promise<T> => {
    const db = await opened()
    const result = await patiently(() => work(db))
    db.sweeper.afterWrite()
    return result
  }

  return {
    name: `sqlite:${file}`,

    sessions: {
      create: (record, ttl) => write(({ sessions }) => sessions.create(record, ttl)),
      load: (id) => read(({ sessions }) => sessions.load(id)),
      update: (record, ttl) => write(({ sessions }) => sessions.update(record, ttl)),
      touch: (id, ttl) => write(({ sessions }) => sessions.touch(id, ttl)),
      delete: (id) => write(({ sessions }) => sessions.delete(id)),
      async *list() {
        const newest = await read(({ sessions }) => sessions.newest())
        for (let after: number | undefined = 0; after !== undefined; ) {
          const from: number = after
          const page = await read(({ sessions }) => sessions.page(from, newest))
          yield* page.records
          after = page.next
        }
      },
      getState: (id, key) => read(({ sessions }) => sessions.getState(id, key)),
      setState: (id, key, value, expected) => write(({ sessions }) => sessions.setState(id, key, value, expected)),
    },

    events: {
      open: (session, stream, init) => write(({ events }) => events.open(session, stream, init)),
      append: (session, stream, batch) => write(({ events }) => events.append(session, stream, batch)),
      read: (session, stream, after, limit) => read(({ events }) => events.read(session, stream, after, limit)),
      attach: (session, stream, reader) => write(({ events }) => events.attach(session, stream, reader)),
      claim: (session, stream, writer, from) => write(({ events }) => events.claim(session, stream, writer, from)),
      async delete(session) {
        await write(({ events }) => events.condemn(session))
        // Bit by bit, letting others write in between. Should this process die, the rest expires at once and is swept.
        while (await write(({ events }) => events.removeCondemned(session))) await turn()
      },
    },

    bus: {
      publish: (topic, message) =>
        write(({ bus, subscriptions }) => {
          bus.publish(topic, message)
          subscriptions.due()
        }),
      async subscribe(topic, listener) {
        const end = await read(({ subscriptions }) => subscriptions.add(topic, listener))
        return async () => end()
      },
      beat: (node, ttl) => write(({ bus }) => bus.beat(node, ttl)),
      leave: (node) => write(({ bus }) => bus.leave(node)),
      nodes: () => read(({ bus }) => bus.nodes()),
    },

    async ping() {
      // Reads the file, which merely having it open would not.
      await read(({ bus }) => bus.dataVersion())
    },

    async close() {
      if (isClosed) return
      isClosed = true
      // Opening may have failed; whoever wanted it open was told.
      const db = await opening?.catch(() => undefined)
      db?.close()
    },
  }
}
