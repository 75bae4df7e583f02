import { type EventLog, type Retention, type StreamInfo, TOMBSTONE_TTL } from '../backend.js'
import type { Row } from './connection.js'
import type { Database } from './database.js'
import { decode, duration, encode, key, whole } from './values.js'

export function eventLog(database: Database, retention: Required<Retention>): EventLog {
  const s = database.schema
  const ttl = duration(retention.ttl)
  const isThisStream = 'session = $1 and stream = $2 and expires_at > clock_timestamp()'

  return {
    ttl: retention.ttl,

    async open(session, stream, init) {
      const [row] = await database.query(`select ${s}.open_stream($1, $2, $3, $4, $5, $6)::text`, [
        key(session),
        key(stream),
        encode(init.head),
        orNull(init.writer),
        init.base ?? 0,
        ttl,
      ])
      return row?.[0] === 'true'
    },

    async append(session, stream, batch) {
      let size = 0
      const events = batch.events.map((data, index) => {
        const start = size
        size += data.length
        return { p: index + 1, s: start, d: encode(data) }
      })
      const [row] = await database.query(
        `select ${s}.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)::text`,
        [
          key(session),
          key(stream),
          key(batch.id),
          orNull(batch.writer),
          JSON.stringify(events),
          events.length,
          size,
          batch.end ?? false,
          ttl,
          whole(retention.maxEvents),
          whole(retention.maxBytes),
          whole(batch.after ?? 0),
        ],
      )
      const position = row?.[0] ?? undefined
      return position === undefined ? undefined : Number(position)
    },

    async read(session, stream, after, limit) {
      const values = [key(session), key(stream), whole(after), whole(limit)]
      const rows = await database.query(`select * from ${s}.read_events($1, $2, $3, $4)`, values)
      const [first] = rows
      if (!first) return undefined
      const events = rows
        .filter((row) => typeof row[7] === 'string')
        .map((row) => ({ position: Number(row[7]), data: decode(row[8] ?? '') }))
      return { ...infoOf(first), events }
    },

    async attach(session, stream, reader) {
      const [row] = await database.query(
        `with before as (select * from ${s}.streams where ${isThisStream} for no key update)
         update ${s}.streams set reader = $3 from before where streams.n = before.n
         returning before.head, before.writer, before.reader, before.sent::text, before.first::text, before.last::text,
           before.ended::text`,
        [key(session), key(stream), encode(reader)],
      )
      return row && infoOf(row)
    },

    async sent(session, stream, position) {
      await database.query(
        `update ${s}.streams set sent = greatest(sent, $3::bigint) where ${isThisStream} returning head`,
        [key(session), key(stream), position],
      )
    },

    async claim(session, stream, writer, from) {
      const rows = await database.query(
        `update ${s}.streams set writer = $3 where ${isThisStream} and not ended and writer = $4 returning writer`,
        [key(session), key(stream), encode(writer), encode(from)],
      )
      return rows.length > 0
    },

    async delete(session) {
      await database.query(`select ${s}.delete_streams($1, $2)::text`, [key(session), TOMBSTONE_TTL])
    },
  }
}

function infoOf([head, writer, reader, sent, first, last, ended]: Row): StreamInfo {
  return {
    head: decode(head ?? ''),
    writer: orUndefined(writer),
    reader: orUndefined(reader),
    sent: sent === null || sent === undefined ? undefined : Number(sent),
    first: Number(first),
    last: Number(last),
    ended: ended === 'true',
  }
}

function orNull(name: string | undefined): string | null {
  return name === undefined ? null : encode(name)
}

function orUndefined(name: string | null | undefined): string | undefined {
  return name === null || name === undefined ? undefined : decode(name)
}
