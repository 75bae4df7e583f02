/** Somebody who can write to the store, past mcp-roam: by SQL, by a client of Redis, in memory by the answers of the store. */
import Database from 'better-sqlite3'
import { Redis } from 'ioredis'
import pg from 'pg'
import type { Backend } from '../../src/backend/backend.js'
import type { MemoryBackend } from '../../src/backend/memory.js'
import { recordIn } from '../../src/backend/record.js'
import type { Where } from '../harness/backends.js'

/** A text in the store: a record, a value of its state, the head of a stream, the first event of one. */
export type Spot =
  | { kind: 'record'; session: string }
  | { kind: 'value'; session: string; key: string }
  | { kind: 'head' | 'event'; session: string; stream: string }

export interface Intruder {
  read(spot: Spot): Promise<string>
  /** Puts a text there in place of what there is. */
  write(spot: Spot, text: string): Promise<void>
  /** What a node sees, if that is not what the store has. */
  backend?: Backend
  close(): Promise<void>
}

export function intruderAt(where: Where): Intruder {
  switch (where.name) {
    case 'memory':
      return inMemory(where.backend)
    case 'SQLite':
      return inSqlite(where.file)
    case 'Redis':
      return inRedis(where.url, where.prefix)
    case 'PostgreSQL':
      return inPostgres(where.url, where.schema)
  }
}

function inSqlite(file: string): Intruder {
  const db = new Database(file)
  const sql = statements((n) => `@p${n}`)
  const named = (texts: string[]) => Object.fromEntries(texts.map((text, i) => [`p${i + 1}`, text]))
  return {
    read: async (spot) =>
      db
        .prepare(sql[spot.kind].read)
        .pluck()
        .get(named(namesOf(spot))) as string,
    async write(spot, text) {
      const { changes } = db.prepare(sql[spot.kind].write).run(named([...namesOf(spot), text]))
      if (changes !== 1) throw new Error(`${changes} rows were written`)
    },
    close: async () => void db.close(),
  }
}

function inPostgres(url: string, schema: string): Intruder {
  const pool = new pg.Pool({ connectionString: url, max: 1, options: `-c search_path=${schema}` })
  const sql = statements((n) => `$${n}::text`, true)
  return {
    read: async (spot) =>
      (await pool.query({ text: sql[spot.kind].read, values: namesOf(spot), rowMode: 'array' })).rows[0]?.[0],
    async write(spot, text) {
      const { rowCount } = await pool.query(sql[spot.kind].write, [...namesOf(spot), text])
      if (rowCount !== 1) throw new Error(`${rowCount} rows were written`)
    },
    close: () => pool.end(),
  }
}

/** The names that a text is stored under, as the statements have them. */
function namesOf(spot: Spot): string[] {
  if (spot.kind === 'record') return [spot.session]
  return [spot.session, 'key' in spot ? spot.key : spot.stream]
}

/** The tables of SQLite and PostgreSQL are alike, but for what state refers to. */
function statements(parameter: (n: number) => string, byId = false) {
  const [a, b, c] = [1, 2, 3].map(parameter)
  const session = byId ? a : `(SELECT n FROM sessions WHERE id = ${a})`
  const stream = `(SELECT n FROM streams WHERE session = ${a} AND stream = ${b})`
  const both = (table: string, column: string, where: string, text = c) => ({
    read: `SELECT ${column} FROM ${table} WHERE ${where}`,
    write: `UPDATE ${table} SET ${column} = ${text} WHERE ${where}`,
  })
  const first = `stream = ${stream} AND position = (SELECT min(position) FROM events WHERE stream = ${stream})`
  return {
    record: both('sessions', 'record', `id = ${a}`, b),
    value: both('state', 'value', `session = ${session} AND key = ${b}`),
    head: both('streams', 'head', `session = ${a} AND stream = ${b}`),
    event: both('events', 'data', first),
  }
}

function inRedis(url: string, prefix: string): Intruder {
  const client = new Redis(url)
  /** Values and events have a number before them. */
  const parts = (text: string | null) => /^(\d+) (.*)$/s.exec(text ?? '')?.slice(1) as [string, string]
  const hash = (key: string, field: string) => ({
    read: () => client.hget(key, field),
    write: async (text: string) => {
      if ((await client.hset(key, field, text)) !== 0) throw new Error('nothing was there')
    },
  })
  const place = (spot: Spot) => {
    const own = (what: string, name = '') => `${prefix}:${what}:{${spot.session}}${name}`
    if (spot.kind === 'record') return hash(own('session'), 'record')
    if (spot.kind === 'value') return hash(own('session'), `state:${spot.key}`)
    if (spot.kind === 'head') return hash(own('standing', `:${spot.stream}`), 'head')
    const key = own('log', `:${spot.stream}`)
    return { read: () => client.lindex(key, 0), write: async (text: string) => void (await client.lset(key, 0, text)) }
  }
  const isNumbered = ({ kind }: Spot) => kind === 'value' || kind === 'event'
  return {
    async read(spot) {
      const text = await place(spot).read()
      return isNumbered(spot) ? parts(text)[1] : (text ?? '')
    },
    async write(spot, text) {
      const at = place(spot)
      await at.write(isNumbered(spot) ? `${parts(await at.read())[0]} ${text}` : text)
    },
    close: async () => client.disconnect(),
  }
}

/** Nobody but the process comes to its memory: what is written is put into the store's answers. */
function inMemory(inner: MemoryBackend): Intruder {
  const written = new Map<string, string>()
  const nameOf = (spot: Spot) => [spot.kind, ...namesOf(spot)].join(' ')
  const head = async <T extends { head: string } | undefined>(session: string, stream: string, given: Promise<T>) => {
    const found = await given
    const text = written.get(nameOf({ kind: 'head', session, stream }))
    return found && text !== undefined ? { ...found, head: text } : found
  }
  const { sessions, events, bus } = inner
  const backend: Backend & Pick<Required<Backend>, 'events'> = {
    sessions: {
      ...sessions,
      async load(id, holder) {
        const stored = await sessions.load(id, holder)
        const text = written.get(nameOf({ kind: 'record', session: id }))
        return stored && text !== undefined ? { ...stored, record: recordIn(id, text) } : stored
      },
      async getState(id, key) {
        const entry = await sessions.getState(id, key)
        const value = written.get(nameOf({ kind: 'value', session: id, key }))
        return entry && value !== undefined ? { ...entry, value } : entry
      },
    },
    events: {
      ...events,
      attach: (session, stream, reader) => head(session, stream, events.attach(session, stream, reader)),
      async read(session, stream, after, limit) {
        const slice = await head(session, stream, events.read(session, stream, after, limit))
        const data = written.get(nameOf({ kind: 'event', session, stream }))
        const [first, ...others] = slice?.events ?? []
        return slice && first && data !== undefined && after === 0
          ? { ...slice, events: [{ ...first, data }, ...others] }
          : slice
      },
    },
    bus,
  }
  return {
    backend,
    async read(spot) {
      const { session } = spot
      if (spot.kind === 'record') return JSON.stringify((await backend.sessions.load(session))?.record)
      if (spot.kind === 'value') return (await backend.sessions.getState?.(session, spot.key))?.value ?? ''
      const slice = await backend.events.read(session, spot.stream, 0, 1)
      return (spot.kind === 'head' ? slice?.head : slice?.events[0]?.data) ?? ''
    },
    write: async (spot, text) => void written.set(nameOf(spot), text),
    close: async () => {},
  }
}
