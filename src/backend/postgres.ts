/** Sessions, events and messages in PostgreSQL (13 or later): for clusters that already have one. */
import type { CompleteBackend, Retention } from './backend.js'
import { checkNames, checkRetention } from './options.js'
import { messageBus } from './postgres/bus.js'
import { clientForPool, clientForUrl } from './postgres/client.js'
import { type Client, isAnswer, type Row } from './postgres/connection.js'
import { openDatabase } from './postgres/database.js'
import { eventLog } from './postgres/events.js'
import type { PgPool } from './postgres/pg.js'
import type { PostgresJs } from './postgres/postgres-js.js'
import { checkSchema } from './postgres/schema.js'
import { sessionStore } from './postgres/sessions.js'
import { startSweeper } from './postgres/sweeper.js'

export type { PgPool } from './postgres/pg.js'
export type { PostgresJs } from './postgres/postgres-js.js'

/** Where the database is, as an address or as a client that you made; and how it is used. */
export type PostgresOptions = PostgresSettings &
  (
    | {
        /** `postgres://user:password@host:5432/database`, with what is special in user or password percent-encoded. */
        url: string
        pool?: never
      }
    | {
        /** A `pg.Pool` of at least two connections, or the `sql` that postgres.js made. It stays open when the backend is closed. */
        pool: PgPool | PostgresJs
        url?: never
      }
  )

export interface PostgresSettings {
  /**
   * The schema that holds the tables and functions; made if it is missing. Notification channels are named after it. Letters,
   * digits, `_` and `-`; case counts. Default `mcp_roam`.
   */
  schema?: string
  /**
   * How much of streams is kept. Default: 1 hour (of one that has ended: 5 minutes), 10,000 events and 16 Mi UTF-16 code units of
   * each stream, 64 Mi of all streams of a session.
   */
  retention?: Retention
  /**
   * Where to connect for LISTEN: an address like `url`. LISTEN needs a connection of its own, so this is for a `url` or `pool`
   * that leads to a pooler (PgBouncer, RDS Proxy), and says where the server itself is. Its user needs the same rights. Default:
   * what `url` or `pool` says.
   */
  listenUrl?: string
}

/** What {@link postgres} returns. */
export interface PostgresBackend extends CompleteBackend {
  /**
   * Makes the schema and its tables, or brings them up to date; does nothing if they are. The first use does the same, so call
   * it only to have it done at another time or as another user. Any number of nodes may call it at once. Rejects when the
   * database cannot be reached, or the user may not create what is missing.
   */
  migrate(): Promise<void>
}

/**
 * A backend on PostgreSQL.
 *
 * With `url` it connects with `pg`, or with `postgres` (postgres.js) if only that is installed; `pool` may be of either. Nothing
 * is connected before it is used. While the database is away methods reject within a few seconds; a statement that was lost is
 * not sent again. Afterwards everything goes on by itself, subscriptions too.
 *
 * With `url` there are up to ten connections, and one that listens while anything is subscribed. A `pg` pool lends one of its
 * connections for that, so give it at least two; it stays open when the backend is closed. Every statement is a transaction
 * of its own at the isolation level READ COMMITTED, which is PostgreSQL's default and must not be changed for this user.
 *
 * @throws TypeError if an option cannot be right; the message says what to write, and never repeats the address, which may
 * hold a password.
 *
 * @example
 * ```ts
 * import { postgres } from 'mcp-roam/postgres'
 *
 * const backend = postgres({ url: 'postgres://app:secret@db.internal:5432/app' })
 * ```
 *
 * @example A pool of yours
 * ```ts
 * const pool = new pg.Pool({ connectionString, max: 20, connectionTimeoutMillis: 5_000 })
 * const backend = postgres({ pool, schema: 'mcp_sessions' })
 * ```
 */
export function postgres(options: PostgresOptions): PostgresBackend {
  checkNames('postgres', options, ['url', 'pool', 'schema', 'retention', 'listenUrl'])
  const schema = checkSchema(options.schema ?? 'mcp_roam')
  const retention = checkRetention('postgres', options.retention)
  const { client, name } = connectTo(options)
  const { listenUrl } = options
  const listenClient = listenUrl === undefined ? client : clientForUrl(checkUrl(listenUrl, 'listenUrl').text)

  const database = openDatabase({ ...client, query: watched }, schema)
  const bus = messageBus(database, schema, listenClient)
  const stopSweeper = startSweeper(database)

  /** What fails here may have been lost for the connection that listens as well, which hears nothing of it. */
  async function watched(...statement: Parameters<Client['query']>): Promise<Row[]> {
    try {
      return await client.query(...statement)
    } catch (error) {
      if (!isAnswer(error)) bus.doubt()
      throw error
    }
  }

  const close = async () => {
    stopSweeper()
    await bus.close()
    if (listenClient !== client) await listenClient.close()
    await client.close()
  }
  let closing: Promise<void> | undefined

  return {
    name: `${name}${schema}`,
    sessions: sessionStore(database),
    events: eventLog(database, retention),
    bus,
    migrate: () => database.migrate(),
    async ping() {
      await client.query('select 1::text', [])
    },
    close() {
      closing ??= close()
      return closing
    },
  }
}

/** The client that the options ask for, and what stands before the schema in the backend's name. */
function connectTo({ url, pool }: PostgresOptions): { client: Client; name: string } {
  if ((url === undefined) === (pool === undefined)) {
    throw new TypeError("postgres: give either `url` ('postgres://user:password@host:5432/database') or `pool`")
  }
  if (pool !== undefined) {
    if (!isClient(pool)) throw new TypeError('postgres: `pool` must be a `pg.Pool`, or the `sql` that postgres.js made')
    return { client: clientForPool(pool), name: 'postgres:' }
  }
  const { text, host, pathname } = checkUrl(url, 'url')
  return { client: clientForUrl(text), name: `postgres://${host}${pathname}#` }
}

function isClient(pool: unknown): boolean {
  const has = (...names: string[]) => names.every((name) => typeof Reflect.get(Object(pool), name) === 'function')
  return 'options' in Object(pool) && (has('unsafe') || has('query', 'connect', 'on', 'off'))
}

function checkUrl(url: unknown, option: string): { text: string; host: string; pathname: string } {
  const address = typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined
  const ours = address?.protocol === 'postgres:' || address?.protocol === 'postgresql:'
  // An "@" after the host, or a "#", is the sign of a password that was not encoded: its beginning would be taken for host and port.
  if (typeof url !== 'string' || !ours || address.hash || /@/.test(address.pathname + address.search)) {
    throw new TypeError(
      `postgres: \`${option}\` is not an address of PostgreSQL; write 'postgres://user:password@host:5432/database', with what is special in user or password percent-encoded`,
    )
  }
  return { text: url, host: address.host, pathname: address.pathname }
}
