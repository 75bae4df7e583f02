import type Sqlite from 'better-sqlite3'
import {
  type Held,
  OWN_STATE,
  type SessionRecord,
  type SessionStanding,
  type SessionStore,
  type SetStateOutcome,
  type StateEntry,
  type StateLimit,
  type StoredSession,
  TOMBSTONE_TTL,
} from '../backend.js'
import { recordIn } from '../record.js'
import type { Database } from './database.js'

/** Records that `list` reads in one statement. */
const PAGE = 100

export function sessionStore(database: Database): Required<SessionStore> {
  const { read, write } = database.statements(({ durable }) => prepare(durable, database.now))
  // A power failure that takes the last holders takes their nodes as well.
  const quick = database.statements(({ quick }) => prepareHolders(quick, database.now))
  /** Without a write, and its lock, if that is nobody new. */
  const hold = async (id: string, holder: string): Promise<StoredSession | undefined> => {
    const stored = await read((sessions) => sessions.load(id))
    if (!stored || stored.holders?.includes(holder)) return stored
    return quick.write((sessions) => sessions.loadAndHold(id, holder))
  }

  return {
    create: (record, ttl, holder) => write((sessions) => sessions.create(record, ttl, holder)),
    load: (id, holder) => (holder === undefined ? read((sessions) => sessions.load(id)) : hold(id, holder)),
    look: (ids) => read((sessions) => sessions.look(ids)),
    release: (id, holders) => quick.write((sessions) => sessions.release(id, holders)),
    update: (record, expected, ttl) => write((sessions) => sessions.update(record, expected, ttl)),
    touch: (id, ttl) => write((sessions) => sessions.touch(id, ttl)),
    delete: (id) => write((sessions) => sessions.delete(id)),

    async *list() {
      const newest = await read((sessions) => sessions.newest())
      let next: number | undefined = 0
      while (next !== undefined) {
        const after: number = next
        const page: Page = await read((sessions) => sessions.page(after, newest))
        yield* page.records
        next = page.next
      }
    },

    getState: (id, key) => read((sessions) => sessions.getState(id, key)),
    setState: (id, key, value, expected, limit) =>
      write((sessions) => sessions.setState(id, key, value, expected, limit)),
  }
}

interface Page {
  records: SessionRecord[]
  /** Where the next page begins; undefined: this was the last one. */
  next: number | undefined
}

/** The statements on one connection. They are synchronous, and each call is one transaction. */
function prepare(db: Sqlite.Database, now: () => number) {
  const isDeleted = db.prepare<[string, number], 1>('SELECT 1 FROM tombstones WHERE id = ? AND expires_at > ?').pluck()
  const insertTombstone = db.prepare<[string, number]>(
    'INSERT OR REPLACE INTO tombstones (id, expires_at) VALUES (?, ?)',
  )
  const removeExpired = db.prepare<[string, number]>('DELETE FROM sessions WHERE id = ? AND expires_at <= ?')
  const insert = db.prepare<[string, number, number, string, string]>(
    'INSERT INTO sessions (id, revision, expires_at, record, holders) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING',
  )
  const select = db.prepare<[string, number], Row>(SELECT)
  const standing = db.prepare<[string, number], { revision: number; holders: string }>(
    'SELECT revision, holders FROM sessions WHERE id = ? AND expires_at > ?',
  )
  const update = db
    .prepare<[number, number, string, string, number, number], string>(
      `UPDATE sessions SET revision = ?, expires_at = ?, record = ? WHERE id = ? AND revision = ? AND expires_at > ?
       RETURNING holders`,
    )
    .pluck()
  const touch = db.prepare<[number, string, number]>(
    'UPDATE sessions SET expires_at = ? WHERE id = ? AND expires_at > ?',
  )
  const remove = db.prepare<[string], { expires_at: number; holders: string }>(
    'DELETE FROM sessions WHERE id = ? RETURNING expires_at, holders',
  )
  const newest = db.prepare<[], number | null>('SELECT max(n) FROM sessions').pluck()
  const page = db.prepare<[number, number, number], { n: number; id: string; record: string }>(
    `SELECT n, id, record FROM sessions WHERE n > ? AND n <= ? AND expires_at > ? ORDER BY n LIMIT ${PAGE}`,
  )

  const find = db.prepare<[string, number], number>('SELECT n FROM sessions WHERE id = ? AND expires_at > ?').pluck()
  const selectState = db.prepare<[string, string, number], StateEntry>(
    `SELECT value, state.revision FROM state JOIN sessions ON sessions.n = state.session
     WHERE sessions.id = ? AND key = ? AND expires_at > ?`,
  )
  const stateBefore = db.prepare<[number, string], { revision: number; size: number }>(
    'SELECT revision, size FROM state WHERE session = ? AND key = ?',
  )
  const otherState = db.prepare<[number, string], { keys: number; size: number }>(
    `SELECT count(*) AS keys, coalesce(sum(size), 0) AS size FROM state
     WHERE session = ? AND key <> ? AND substr(key, 1, ${OWN_STATE.length}) <> '${OWN_STATE}'`,
  )
  const replaceState = db.prepare<[number, string, string, number]>(
    'INSERT OR REPLACE INTO state (session, key, value, size) VALUES (?, ?, ?, ?)',
  )
  const removeState = db.prepare<[number, string]>('DELETE FROM state WHERE session = ? AND key = ?')

  return {
    create: db.transaction((record: SessionRecord, ttl: number, holder: string | undefined): boolean => {
      const time = now()
      const { id, revision } = record
      if (isDeleted.get(id, time)) return false
      removeExpired.run(id, time)
      return insert.run(id, revision, time + ttl, JSON.stringify(record), joined(holder ? [holder] : [])).changes === 1
    }).immediate,

    load(id: string): StoredSession | undefined {
      const row = select.get(id, now())
      return row && { record: recordIn(id, row.record), ...heldBy(row) }
    },

    /** A statement for each, which in this process costs no more than one for all. */
    look: db.transaction((ids: readonly string[]): (SessionStanding | undefined)[] => {
      const time = now()
      return ids.map((id) => {
        const row = standing.get(id, time)
        return row && { revision: row.revision, ...heldBy(row) }
      })
    }).deferred,

    // A transaction, because a statement that returns rows gives them before its commit, and `get` passes over what comes then.
    update: db.transaction((record: SessionRecord, expected: number, ttl: number): Held | undefined => {
      const time = now()
      const { id, revision } = record
      const holders = update.get(revision, time + ttl, JSON.stringify(record), id, expected, time)
      return holders === undefined ? undefined : heldBy({ holders })
    }).immediate,

    touch(id: string, ttl: number): boolean {
      const time = now()
      return touch.run(time + ttl, id, time).changes === 1
    },

    delete: db.transaction((id: string): Held | undefined => {
      const time = now()
      insertTombstone.run(id, time + TOMBSTONE_TTL)
      const removed = remove.get(id)
      return removed && removed.expires_at > time ? heldBy(removed) : undefined
    }).immediate,

    /** The last row that a listing gives: otherwise sessions that are made meanwhile could keep it going forever. */
    newest: (): number => newest.get() ?? 0,

    /** By primary key, because an open cursor would keep a read transaction open while the consumer awaits. */
    page(after: number, upTo: number): Page {
      const rows = page.all(after, upTo, now())
      const records = rows.map(({ id, record }) => recordIn(id, record))
      return { records, next: rows.length < PAGE ? undefined : rows.at(-1)?.n }
    },

    getState: (id: string, key: string): StateEntry | undefined => selectState.get(id, key, now()),

    setState: db.transaction(
      (id: string, key: string, value: string | undefined, expected?: number, limit?: StateLimit): SetStateOutcome => {
        const session = find.get(id, now())
        if (session === undefined) return 'gone'
        const before = stateBefore.get(session, key)
        if (expected !== undefined && (before?.revision ?? 0) !== expected) return 'conflict'
        const size = key.length + (value?.length ?? 0)
        const others = limit && value !== undefined ? otherState.get(session, key) : undefined
        if (limit && others) {
          if (!before && others.keys >= limit.keys) return 'too-many'
          if (others.size + size > limit.size && size > (before?.size ?? 0)) return 'too-large'
        }
        if (value === undefined) removeState.run(session, key)
        else replaceState.run(session, key, value, size)
        return 'ok'
      },
    ).immediate,
  }
}

function prepareHolders(db: Sqlite.Database, now: () => number) {
  const select = db.prepare<[string, number], Row>(SELECT)
  const update = db.prepare<[string, string]>('UPDATE sessions SET holders = ? WHERE id = ?')

  return {
    loadAndHold: db.transaction((id: string, holder: string): StoredSession | undefined => {
      const row = select.get(id, now())
      if (!row) return undefined
      const { holders } = heldBy(row)
      if (!holders.includes(holder)) {
        holders.push(holder)
        update.run(joined(holders), id)
      }
      return { record: recordIn(id, row.record), holders }
    }).immediate,

    release: db.transaction((id: string, names: readonly string[]): void => {
      const row = select.get(id, now())
      if (row) update.run(joined(heldBy(row).holders.filter((holder) => !names.includes(holder))), id)
    }).immediate,
  }
}

const SELECT = 'SELECT record, holders FROM sessions WHERE id = ? AND expires_at > ?'

interface Row {
  record: string
  /** Names, with a blank between them. */
  holders: string
}

function heldBy({ holders }: Pick<Row, 'holders'>): { holders: string[] } {
  return { holders: holders === '' ? [] : holders.split(' ') }
}

function joined(holders: readonly string[]): string {
  return holders.join(' ')
}
