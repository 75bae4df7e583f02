import type Database from 'better-sqlite3'
import { isGone, placeOf } from './process.js'

/** Messages read at a time. */
const PAGE = 256

/** The message bus's statements on one connection, synchronous; each call is one transaction. */
export function prepareBus(db: Database.Database, now: () => number) {
  const insert = db.prepare<[number, string, string]>(
    'INSERT INTO messages (published_at, topic, message) VALUES (?, ?, ?)',
  )
  // Not max(id): the newest message may have been swept.
  const newest = db.prepare<[], number>("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").pluck()
  const dataVersion = db.prepare<[], number>('PRAGMA data_version').pluck()
  const after = db.prepare<[number], { id: number; topic: string }>(
    `SELECT id, topic FROM messages WHERE id > ? ORDER BY id LIMIT ${PAGE}`,
  )
  const select = db.prepare<[number], string>('SELECT message FROM messages WHERE id = ?').pluck()

  const place = placeOf()
  const pid = place === null ? null : process.pid
  const beat = db.prepare<[string, number, string | null, number | null]>(
    'INSERT OR REPLACE INTO nodes (id, expires_at, place, pid) VALUES (?, ?, ?, ?)',
  )
  const leave = db.prepare<[string]>('DELETE FROM nodes WHERE id = ?')
  const nodes = db.prepare<[number], { id: string; place: string | null; pid: number | null }>(
    'SELECT id, place, pid FROM nodes WHERE expires_at > ?',
  )

  return {
    publish(topic: string, message: string): void {
      insert.run(now(), topic, message)
    },

    /** Id of the newest message there ever was. */
    newest: (): number => newest.get() ?? 0,

    /** Another number than before if another connection has written since. */
    dataVersion: (): number => dataVersion.get() ?? 0,

    /** Ids and topics alone: a node does not read the payloads of messages to others. */
    after: (id: number): { id: number; topic: string }[] => after.all(id),

    /** Undefined: swept meanwhile. */
    message: (id: number): string | undefined => select.get(id),

    beat(node: string, ttl: number): void {
      beat.run(node, now() + ttl, place, pid)
    },

    leave(node: string): void {
      leave.run(node)
    },

    /**
     * Without those whose process has ended, which a node that was killed does not get to say: whoever waits for it need not
     * wait for its heartbeat to expire. A node of another place, or whose process id was given to another process since, is
     * taken for alive until then.
     */
    nodes: (): string[] =>
      nodes
        .all(now())
        .filter((node) => !(node.pid !== null && node.place === place && isGone(node.pid)))
        .map(({ id }) => id),
  }
}
