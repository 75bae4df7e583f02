import { randomUUID } from 'node:crypto'
import { within } from '../../util/within.js'
import type { MessageBus } from '../backend.js'
import type { Listening } from './connection.js'
import type { Database } from './database.js'
import { decode, duration, encode, key } from './values.js'

/** PostgreSQL takes payloads shorter than this, in bytes. */
const NOTIFY_LIMIT = 8000

/** How long the body of a big message can be fetched, in milliseconds. */
const BODY_TTL = 30_000

/** How long a subscriber waits for its echo, in milliseconds. */
const ECHO_TIMEOUT = 5_000

/**
 * Messages as notifications on one channel. A payload is `=<length of topic>:<topic><message>`, or, for a big message, whose
 * body is in a table then, `@<id>:<topic>`; topics are what `key` makes of them. `?<token>` is an echo: what a node sends to
 * itself when it subscribes. Notifications come in the order of their commits, so when the echo comes the listening
 * connection is known to work, and all that was published before the subscription has come.
 */
export function messageBus(
  database: Database,
  channel: string,
  listen: (heard: (payload: string) => void) => Listening,
): MessageBus & { close(): Promise<void> } {
  const s = database.schema
  const topics = new Map<string, Set<(message: string) => void>>()
  /** Topics of which a body is being fetched: what comes after it waits, to stay in order. */
  const queues = new Map<string, Promise<void>>()
  let listening: Listening | undefined

  /** Echoes that are to come, by payload, and what begins with them. */
  const echoes = new Map<string, () => void>()
  let gathering: Echo | undefined

  /** Echoes are shared by those who subscribe while the connection is being made ready. */
  const newEcho = (): Echo => {
    const begins = new Set<() => void>()
    const token = `?${randomUUID()}`
    const come = new Promise<void>((resolve) => {
      echoes.set(token, () => {
        for (const begin of begins) begin()
        resolve()
      })
    })
    const send = async () => {
      try {
        listening ??= listen(hear)
        await listening.ready()
        if (gathering === echo) gathering = undefined
        await database.query('select pg_notify($1, $2)::text', [channel, token])
        await within(ECHO_TIMEOUT, come)
      } finally {
        if (gathering === echo) gathering = undefined
        echoes.delete(token)
      }
    }
    // In a turn of its own, because `send` looks at `echo`.
    const echo = { begins, done: Promise.resolve().then(send) }
    return echo
  }

  const fetchBody = async (id: string): Promise<string | undefined> => {
    try {
      const [row] = await database.query(`select body from ${s}.messages where id = $1`, [id])
      return row && decode(row[0] ?? '')
    } catch {
      // Messages may get lost; what there is to say of the database, the next call will.
      return undefined
    }
  }

  const hear = (payload: string) => {
    const echo = echoes.get(payload)
    if (echo) {
      echo()
      return
    }
    const arrived = parsePayload(payload)
    const listeners = arrived && topics.get(arrived.topic)
    if (!listeners) return
    const { topic } = arrived
    // Whoever subscribes while a body is fetched did so after this was published.
    const present = [...listeners]
    const deliver = (message: string) => {
      for (const listener of present) if (listeners.has(listener)) listener(message)
    }
    const queue = queues.get(topic)
    if ('message' in arrived && !queue) {
      deliver(arrived.message)
      return
    }
    const message = 'message' in arrived ? Promise.resolve(arrived.message) : fetchBody(arrived.id)
    const turn = Promise.all([message, queue]).then(([text]) => {
      if (queues.get(topic) === turn) queues.delete(topic)
      if (text !== undefined) deliver(text)
    })
    queues.set(topic, turn)
  }

  return {
    async publish(topic, message) {
      const name = key(topic)
      const body = encode(message)
      const payload = `=${name.length}:${name}${body}`
      if (Buffer.byteLength(payload) < NOTIFY_LIMIT) {
        await database.query('select pg_notify($1, $2)::text', [channel, payload])
        return
      }
      await database.query(
        `with stored as (insert into ${s}.messages (body, expires_at) values ($3, ${s}.later($4)) returning id)
         select pg_notify($1, '@' || id || ':' || $2)::text from stored`,
        [channel, name, body, BODY_TTL],
      )
    },

    async subscribe(topic, listener) {
      const name = key(topic)
      // A listener may be subscribed twice, so each subscription gets a function of its own.
      const own = (message: string) => listener(message)
      const begin = () => {
        const listeners = topics.get(name) ?? new Set()
        topics.set(name, listeners.add(own))
      }
      const end = () => {
        const listeners = topics.get(name)
        if (listeners?.delete(own) && listeners.size === 0) topics.delete(name)
      }
      gathering ??= newEcho()
      const { begins, done } = gathering
      begins.add(begin)
      try {
        await done
      } catch (error) {
        end()
        throw error
      }
      return async () => end()
    },

    async beat(node, ttl) {
      await database.query(
        `insert into ${s}.nodes (id, name, expires_at) values ($1, $2, ${s}.later($3))
         on conflict (id) do update set expires_at = excluded.expires_at`,
        [key(node), encode(node), duration(ttl)],
      )
    },

    async leave(node) {
      await database.query(`delete from ${s}.nodes where id = $1`, [key(node)])
    },

    async nodes() {
      const rows = await database.query(`select name from ${s}.nodes where expires_at > clock_timestamp()`, [])
      return rows.map(([name]) => decode(name ?? ''))
    },

    async close() {
      topics.clear()
      await listening?.close()
    },
  }
}

interface Echo {
  begins: Set<() => void>
  /** Rejects when it does not come. */
  done: Promise<void>
}

type Arrived = { topic: string; message: string } | { topic: string; id: string }

/** Undefined: not one of ours. Anybody who may connect to the database may send to the channel. */
function parsePayload(payload: string): Arrived | undefined {
  const head = /^([=@])([0-9]{1,19}):/.exec(payload)
  if (!head) return undefined
  const [prefix, kind, number = ''] = head
  if (kind === '@') return { topic: payload.slice(prefix.length), id: number }
  const end = prefix.length + Number(number)
  if (end > payload.length) return undefined
  return { topic: payload.slice(prefix.length, end), message: decode(payload.slice(end)) }
}
