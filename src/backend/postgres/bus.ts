/** Messages between nodes, and a table of the nodes that are alive. */
import type { MessageBus } from '../backend.js'
import type { Client } from './connection.js'
import type { Database } from './database.js'
import { channelOf, Messages } from './messages.js'
import { Subscriptions } from './subscriptions.js'
import { decode, duration, encode, key } from './values.js'

export interface PostgresBus extends MessageBus {
  /** The database did not answer somebody else: the bus finds out at once whether it is still connected. */
  doubt(): void
  close(): Promise<void>
}

/**
 * Whoever may connect to a database can send notifications on any channel and read those of others, whatever they are granted. So
 * messages are rows of a table, and a notification is no more than a bell: it tells those who are subscribed to look.
 *
 * @param listenClient Makes the connection that listens, at the first subscription.
 */
export function messageBus(database: Database, schemaName: string, listenClient: Pick<Client, 'connect'>): PostgresBus {
  const s = database.schema
  const messages = new Messages(database)
  const subscriptions = new Subscriptions(listenClient, database, messages)

  return {
    publish: (topic, message) => messages.publish(channelOf(schemaName, topic), message),
    subscribe: (topic, listener) => subscriptions.add(channelOf(schemaName, topic), listener),

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

    doubt: () => subscriptions.doubt(),
    close: () => subscriptions.close(),
  }
}
