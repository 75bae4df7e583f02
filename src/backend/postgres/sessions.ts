import { type Held, type SessionStore, type SetStateOutcome, TOMBSTONE_TTL } from '../backend.js'
import { recordIn } from '../record.js'
import type { Database } from './database.js'
import { decode, duration, encode, key, whole } from './values.js'

/** Records that `list` reads in one statement. */
const PAGE = 200

export function sessionStore(database: Database): Required<SessionStore> {
  // A record is stored and read as it is, without encode and decode: JSON text has none of the characters that those change.
  const s = database.schema

  return {
    async create(record, ttl, holder = '') {
      const values = [key(record.id), JSON.stringify(record), record.revision, duration(ttl), holder]
      const [row] = await database.query(`select ${s}.create_session($1, $2, $3, $4, $5)::text`, values)
      return row?.[0] === 'true'
    },

    async load(id, holder) {
      const [row] =
        holder === undefined
          ? await database.query(
              `select record, holders from ${s}.sessions where id = $1 and expires_at > clock_timestamp()`,
              [key(id)],
            )
          : await database.query(`select record, holders from ${s}.load_and_hold($1, $2)`, [key(id), holder])
      return row && { record: recordIn(id, row[0]), ...heldBy(row[1]) }
    },

    async look(ids) {
      const names = ids.map(key)
      const rows = await database.query(
        `select id, revision::text, holders from ${s}.sessions
         where id in (select json_array_elements_text($1::text::json)) and expires_at > clock_timestamp()`,
        [JSON.stringify(names)],
      )
      const found = new Map(
        rows.map(([id, revision, holders]) => [id, { revision: Number(revision), ...heldBy(holders) }]),
      )
      return names.map((name) => found.get(name))
    },

    async release(id, holders) {
      await database.query(`select ${s}.release($1, $2)::text`, [key(id), holders.join(' ')])
    },

    async update(record, expected, ttl) {
      const [row] = await database.query(
        `update ${s}.sessions set record = $2, revision = $3::bigint, expires_at = ${s}.later($5)
         where id = $1 and revision = $4::bigint and expires_at > clock_timestamp() returning holders`,
        [key(record.id), JSON.stringify(record), record.revision, expected, duration(ttl)],
      )
      return row && heldBy(row[0])
    },

    async touch(id, ttl) {
      const rows = await database.query(
        `update ${s}.sessions set expires_at = ${s}.later($2) where id = $1 and expires_at > clock_timestamp() returning id`,
        [key(id), duration(ttl)],
      )
      return rows.length > 0
    },

    async delete(id) {
      const [row] = await database.query(`select ${s}.delete_held_session($1, $2)`, [key(id), TOMBSTONE_TTL])
      return typeof row?.[0] === 'string' ? heldBy(row[0]) : undefined
    },

    async *list() {
      let after: string | undefined
      for (;;) {
        const rows = await database.query(
          `select id, record from ${s}.sessions
           where ${after === undefined ? 'id >= $1' : 'id > $1'} and expires_at > clock_timestamp()
           order by id limit ${PAGE}`,
          [after ?? ''],
        )
        for (const [id, record] of rows) yield recordIn(id ?? '', record)
        if (rows.length < PAGE) return
        after = rows.at(-1)?.[0] ?? ''
      }
    },

    async getState(id, name) {
      const [row] = await database.query(
        `select value, revision::text from ${s}.state
         where session = $1 and key = $2
         and exists (select from ${s}.sessions where id = $1 and expires_at > clock_timestamp())`,
        [key(id), key(name)],
      )
      return row && { value: decode(row[0] ?? ''), revision: Number(row[1]) }
    },

    async setState(id, name, value, expected, limit) {
      const [row] = await database.query(`select ${s}.set_state($1, $2, $3, $4, $5, $6, $7)`, [
        key(id),
        key(name),
        value === undefined ? null : encode(value),
        expected ?? null,
        name.length + (value?.length ?? 0),
        limit ? whole(limit.keys) : null,
        limit ? whole(limit.size) : null,
      ])
      return row?.[0] as SetStateOutcome
    },
  }
}

/** Names, with a blank between them. */
function heldBy(holders: string | null | undefined): Held {
  return { holders: holders ? holders.split(' ') : [] }
}
