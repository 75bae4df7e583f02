/** Messages are rows of a table, seen for a few seconds. A notification only says that there is one. */
import { createHash } from 'node:crypto'
import type { Line } from './connection.js'
import type { Database } from './database.js'
import { decode, encode } from './values.js'

/**
 * How long a message can be read, in milliseconds. Longer than a node takes to notice that its connection is silent, and to make
 * another one; shorter than the time after which nodes no longer know what they have answered.
 */
export const MESSAGE_TTL = 7_000

/** Longest time for a statement that reads messages, in milliseconds. */
const READ_LIMIT = 4_000

/** Bytes of messages that are read at once; the first message is read whatever its size. */
const READ_BYTES = 4_000_000

/** Where a message is: its row's id, and the channel of its topic. */
export interface Ring {
  id: number
  channel: string
}

export interface Message extends Ring {
  /** Undefined: it has to be read again, because there was too much to read. */
  text: string | undefined
}

/**
 * The channel of a topic. One for each topic, so that PostgreSQL sends a notification to nobody else: what a node listens to costs
 * the server 2 ns a channel for each notification of the database. It is a hash, so that nobody's input becomes an identifier, and
 * the table does not name sessions.
 */
export function channelOf(schema: string, topic: string): string {
  // Hashed as UTF-16, because in UTF-8 all halves of surrogate pairs are the same.
  return `mcp_roam_${createHash('sha256').update(`${schema} ${topic}`, 'utf16le').digest('base64url')}`
}

/** What a notification says: a row's id. Undefined: it is none of ours; anybody who may connect to the database can send one. */
export function idIn(payload: string): number | undefined {
  return /^[1-9][0-9]{0,14}$/.test(payload) ? Number(payload) : undefined
}

export class Messages {
  /** Selects the id of the newest message. */
  readonly newest: string
  /**
   * Selects a name that is new whenever the table was emptied by a crash or a failover, after which ids begin again. Anybody who
   * waits for it being made sees it.
   */
  readonly incarnation: readonly string[]
  readonly #database: Database
  readonly #read: string
  readonly #readOne: string
  readonly #find: string

  constructor(database: Database) {
    const s = database.schema
    this.#database = database
    this.newest = `select coalesce(max(id), 0)::text from ${s}.messages`
    this.incarnation = [
      `insert into ${s}.message_log default values on conflict do nothing`,
      `select incarnation::text from ${s}.message_log`,
    ]
    this.#read = `
      select message.id::text, message.channel,
        case when sum(octet_length(body)) over (order by rung.n) - octet_length(body) < ${READ_BYTES} then body end
      from unnest(string_to_array($1::text, ',')::bigint[], string_to_array($2::text, ','))
        with ordinality as rung (id, channel, n)
      join ${s}.messages as message on message.id = rung.id and message.channel = rung.channel
      where expires_at > clock_timestamp() order by rung.n`
    // The usual case, in half the time.
    this.#readOne = `
      select id::text, channel, body from ${s}.messages
      where id = $1::text::bigint and channel = $2 and expires_at > clock_timestamp()`
    this.#find = `
      select id::text, channel from unnest(string_to_array($1::text, ',')) as wanted (channel) join ${s}.messages using (channel)
      where expires_at > clock_timestamp() order by id`
  }

  async publish(channel: string, text: string): Promise<void> {
    const values = [channel, encode(text), MESSAGE_TTL]
    await this.#database.query(`select ${this.#database.schema}.publish($1, $2, $3)::text`, values)
  }

  /** The messages that are there, in the order of `rings`. */
  async read(line: Line, rings: readonly Ring[]): Promise<Message[]> {
    const values = [rings.map(({ id }) => id).join(), rings.map(({ channel }) => channel).join()]
    const rows = await line.query(rings.length === 1 ? this.#readOne : this.#read, values, READ_LIMIT)
    return rows.map(([id, channel, body]) => ({
      id: Number(id),
      channel: channel ?? '',
      text: typeof body === 'string' ? decode(body) : undefined,
    }))
  }

  /** Where the messages of the channels are, in the order of their ids. */
  async find(line: Line, channels: readonly string[]): Promise<Ring[]> {
    const rows = await line.query(this.#find, [channels.join()], READ_LIMIT)
    return rows.map(([id, channel]) => ({ id: Number(id), channel: channel ?? '' }))
  }
}
