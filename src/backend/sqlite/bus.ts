import type Sqlite from 'better-sqlite3'
import type { MessageBus } from '../backend.js'
import type { Database } from './database.js'
import { isGone, placeOf } from './process.js'
import { type Messages, Subscriptions } from './subscriptions.js'

/** Ids of messages read at a time. */
const PAGE = 256

/** Messages are rows of a table, which each process that is subscribed to something looks at every `pollInterval` milliseconds. */
export function messageBus(database: Database, pollInterval: number): MessageBus & { close(): void } {
  let subscriptions: Subscriptions | undefined
  const messages = database.statements(({ quick }) => {
    const statements = prepareMessages(quick, database.now)
    if (subscriptions) subscriptions.moveTo(statements)
    else subscriptions = new Subscriptions(statements, pollInterval)
    return { ...statements, subscriptions }
  })
  const nodes = database.statements(({ quick }) => prepareNodes(quick, database.now))

  return {
    publish: (topic, message) =>
      messages.write(({ publish, subscriptions }) => {
        publish(topic, message)
        subscriptions.deliverSoon()
      }),

    async subscribe(topic, listener) {
      const end = await messages.read(({ subscriptions }) => subscriptions.add(topic, listener))
      return async () => end()
    },

    async beat(node, ttl) {
      await nodes.write(({ beat }) => beat(node, ttl))
      // What polls follows a file that was opened anew, whether or not anything else is asked of it.
      await messages.read(() => {})
    },
    leave: (node) => nodes.write(({ leave }) => leave(node)),
    nodes: () => nodes.read(({ alive }) => alive()),
    isGone: (node) => nodes.read(({ isGone }) => isGone(node)),

    close: () => subscriptions?.close(),
  }
}

function prepareMessages(
  db: Sqlite.Database,
  now: () => number,
): Messages & { publish(topic: string, message: string): void } {
  const insert = db.prepare<[number, string, string]>(
    'INSERT INTO messages (published_at, topic, message) VALUES (?, ?, ?)',
  )
  // Not max(id), because the newest message may have been swept.
  const newest = db.prepare<[], number>("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").pluck()
  const dataVersion = db.prepare<[], number>('PRAGMA data_version').pluck()
  const after = db.prepare<[number], { id: number; topic: string }>(
    `SELECT id, topic FROM messages WHERE id > ? ORDER BY id LIMIT ${PAGE}`,
  )
  const select = db.prepare<[number], string>('SELECT message FROM messages WHERE id = ?').pluck()

  return {
    publish(topic, message) {
      insert.run(now(), topic, message)
    },
    newest: () => newest.get() ?? 0,
    dataVersion: () => dataVersion.get() ?? 0,
    after: (id) => after.all(id),
    message: (id) => select.get(id),
  }
}

function prepareNodes(db: Sqlite.Database, now: () => number) {
  const place = placeOf()
  const pid = place === null ? null : process.pid
  const beat = db.prepare<[string, number, string | null, number | null]>(
    'INSERT OR REPLACE INTO nodes (id, expires_at, place, pid) VALUES (?, ?, ?, ?)',
  )
  const leave = db.prepare<[string]>('DELETE FROM nodes WHERE id = ?')
  const select = db.prepare<[number], { id: string; place: string | null; pid: number | null }>(
    'SELECT id, place, pid FROM nodes WHERE expires_at > ?',
  )

  const find = db.prepare<[string], { place: string | null; pid: number | null }>(
    'SELECT place, pid FROM nodes WHERE id = ?',
  )
  const hasEnded = (node: { place: string | null; pid: number | null }) =>
    node.pid !== null && node.place === place && isGone(node.pid)

  return {
    beat(node: string, ttl: number): void {
      beat.run(node, now() + ttl, place, pid)
    },

    leave(node: string): void {
      leave.run(node)
    },

    /**
     * The nodes whose heartbeat has not expired, except those whose process has ended: a node that was killed cannot say so
     * itself, and this way nobody has to wait for its heartbeat to expire. Whether a process has ended is only known of those
     * that run where this one does.
     */
    alive: (): string[] =>
      select
        .all(now())
        .filter((node) => !hasEnded(node))
        .map(({ id }) => id),

    isGone(id: string): boolean {
      const node = find.get(id)
      return node !== undefined && hasEnded(node)
    },
  }
}
