import {
  type EventLog,
  type Retention,
  type StreamInfo,
  type StreamName,
  type StreamStanding,
  TOMBSTONE_TTL,
} from '../backend.js'
import { keptFor } from '../options.js'
import type { Row } from './connection.js'
import type { Database } from './database.js'
import { decode, duration, encode, key, whole } from './values.js'

export function eventLog(database: Database, retention: Required<Retention>): EventLog {
  const s = database.schema
  const ttl = duration(keptFor(retention, false))
  const finishedTtl = duration(keptFor(retention, true))
  const isThisStream = 'session = $1 and stream = $2 and expires_at > clock_timestamp()'

  return {
    ttl: retention.ttl,

    async open(session, stream, init) {
      const [row] = await database.query(`select ${s}.open_stream($1, $2, $3, $4, $5, $6, $7)::text`, [
        key(session),
        key(stream),
        encode(init.head),
        init.head.length,
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
        `select ${s}.append_within($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)::text`,
        [
          key(session),
          key(stream),
          key(batch.id),
          orNull(batch.writer),
          JSON.stringify(events),
          events.length,
          size,
          batch.end ?? false,
          batch.end ? finishedTtl : ttl,
          whole(retention.maxEvents),
          whole(retention.maxBytes),
          whole(retention.maxSessionBytes),
          batch.after === undefined ? null : whole(batch.after),
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

    async look(streams) {
      const found = new Map<number, StreamStanding>()
      const rows = await database.query(`select * from ${s}.look($1, $2)`, namesOf(streams))
      for (const [place, ...row] of rows) found.set(Number(place) - 1, standingOf(row))
      return streams.map((_, index) => found.get(index))
    },

    async keep(streams) {
      await database.query(`select ${s}.keep($1, $2, $3, $4)::text`, [...namesOf(streams), ttl, finishedTtl])
    },

    async delete(session) {
      await database.query(`select ${s}.delete_streams($1, $2)::text`, [key(session), TOMBSTONE_TTL])
    },
  }
}

/** The names as two JSON arrays. */
function namesOf(streams: readonly StreamName[]): [string, string] {
  const sessions = streams.map(({ session }) => key(session))
  return [JSON.stringify(sessions), JSON.stringify(streams.map(({ stream }) => key(stream)))]
}

function infoOf([head, ...standing]: Row): StreamInfo {
  return { head: decode(head ?? ''), ...standingOf(standing) }
}

function standingOf([writer, reader, sent, first, last, ended]: Row): StreamStanding {
  return {
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
