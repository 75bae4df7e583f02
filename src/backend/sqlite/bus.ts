import type Database from 'better-sqlite3'

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

  const beat = db.prepare<[string, number]>('INSERT OR REPLACE INTO nodes (id, expires_at) VALUES (?, ?)')
  const leave = db.prepare<[string]>('DELETE FROM nodes WHERE id = ?')
  const nodes = db.prepare<[number], string>('SELECT id FROM nodes WHERE expires_at > ?').pluck()

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
      beat.run(node, now() + ttl)
    },

    leave(node: string): void {
      leave.run(node)
    },

    nodes: (): string[] => nodes.all(now()),
  }
}
