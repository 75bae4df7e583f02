import { randomUUID } from 'node:crypto'
import { within } from '../../util/within.js'
import type { MessageBus } from '../backend.js'
import type { Listening } from './connection.js'
import type { Database } from './database.js'
import { decode, duration, encode, key } from './values.js'

/** PostgreSQL takes payloads that are shorter than this, in bytes. */
const NOTIFY_LIMIT = 8000

/** How long the body of a big message can be fetched, in milliseconds. */
const BODY_TTL = 30_000

/** How long a subscriber waits for its probe, in milliseconds. */
const PROBE_TIMEOUT = 5_000

/**
 * Messages are notifications on one channel. There are three kinds of payloads; a topic is written as `key` makes it.
 *
 * - `=<length of the topic>:<topic><message>`: a message.
 * - `@<id>:<topic>`: a message too big for a notification. Its body is in a table, and fetched by those who subscribe.
 * - `?<random>`: a probe, which a node sends to itself when it subscribes. Notifications arrive in the order of their commits,
 *   so a probe that arrives shows that the listening connection works, and that all that was published before has arrived.
 */
export function messageBus(
  database: Database,
  channel: string,
  listen: (onPayload: (payload: string) => void) => Listening,
): MessageBus & { close(): Promise<void> } {
  const s = database.schema
  const topics = new Map<string, Set<(message: string) => void>>()
  /** By topic: the last delivery that waits for a body. What arrives after it waits too, to stay in order. */
  const deliveries = new Map<string, Promise<void>>()
  let listening: Listening | undefined

  /** What to do when a probe arrives, by its payload. */
  const probes = new Map<string, () => void>()
  /** The probe that was not sent yet: all who subscribe while the connection is being made wait for the same one. */
  let unsent: Probe | undefined

  const newProbe = (): Probe => {
    const begins = new Set<() => void>()
    const payload = `?${randomUUID()}`
    const arrival = new Promise<void>((resolve) => {
      probes.set(payload, () => {
        for (const begin of begins) begin()
        resolve()
      })
    })
    const send = async () => {
      try {
        listening ??= listen(receive)
        await listening.ready()
        if (unsent === probe) unsent = undefined
        await database.query('select pg_notify($1, $2)::text', [channel, payload])
        await within(PROBE_TIMEOUT, arrival)
      } finally {
        if (unsent === probe) unsent = undefined
        probes.delete(payload)
      }
    }
    // Not at once, because `send` uses `probe`.
    const probe = { begins, arrived: Promise.resolve().then(send) }
    return probe
  }

  const fetchBody = async (id: string): Promise<string | undefined> => {
    try {
      const [row] = await database.query(`select body from ${s}.messages where id = $1`, [id])
      return row && decode(row[0] ?? '')
    } catch {
      // The message is lost, which may happen on a bus. If the database is away, the next call says so.
      return undefined
    }
  }

  const receive = (payload: string) => {
    const onProbe = probes.get(payload)
    if (onProbe) {
      onProbe()
      return
    }
    const arrived = parsePayload(payload)
    const listeners = arrived && topics.get(arrived.topic)
    if (!listeners) return
    const { topic } = arrived
    // Of now: a listener that is added while a body is fetched subscribed after this was published.
    const present = [...listeners]
    const deliver = (message: string) => {
      for (const listener of present) if (listeners.has(listener)) listener(message)
    }
    const before = deliveries.get(topic)
    if ('message' in arrived && !before) {
      deliver(arrived.message)
      return
    }
    const message = 'message' in arrived ? arrived.message : fetchBody(arrived.id)
    const delivery = Promise.all([message, before]).then(([text]) => {
      if (deliveries.get(topic) === delivery) deliveries.delete(topic)
      if (text !== undefined) deliver(text)
    })
    deliveries.set(topic, delivery)
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
      // Each subscription has a function of its own, because the same listener may be subscribed twice.
      const own = (message: string) => listener(message)
      const begin = () => {
        const listeners = topics.get(name) ?? new Set()
        topics.set(name, listeners.add(own))
      }
      const end = () => {
        const listeners = topics.get(name)
        if (listeners?.delete(own) && listeners.size === 0) topics.delete(name)
      }
      unsent ??= newProbe()
      const { begins, arrived } = unsent
      begins.add(begin)
      try {
        await arrived
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

interface Probe {
  /** The subscriptions that begin when it arrives. */
  begins: Set<() => void>
  /** Rejects when it does not arrive in time. */
  arrived: Promise<void>
}

type Arrived = { topic: string; message: string } | { topic: string; id: string }

/** Undefined: this is no payload of mcp-roam. Anybody who may connect to the database may send to the channel. */
function parsePayload(payload: string): Arrived | undefined {
  const head = /^([=@])([0-9]{1,19}):/.exec(payload)
  if (!head) return undefined
  const [prefix, kind, number = ''] = head
  if (kind === '@') return { topic: payload.slice(prefix.length), id: number }
  const end = prefix.length + Number(number)
  if (end > payload.length) return undefined
  return { topic: payload.slice(prefix.length, end), message: decode(payload.slice(end)) }
}
