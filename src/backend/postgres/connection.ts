/**
 * What the rest of the backend sees of `pg` or `postgres` (postgres.js): parameters in, rows of text out. That way no type
 * parser or name transformation that the user configured changes what is read. Below, what both libraries are told alike.
 */

/** No arrays, dates or JSON: the two libraries write those differently. */
export type Value = string | number | boolean | null

/** A statement selects text (or casts to it), nothing else. */
export type Row = readonly (string | null)[]

export interface Client {
  /** One statement in one round trip, with the values as parameters. Rejects after `limit` milliseconds; default 5 seconds. */
  query(text: string, values: readonly Value[], limit?: number): Promise<Row[]>
  /** Makes a connection that nobody else uses. Rejects when that takes longer than {@link LINE_CONNECT_TIMEOUT}. */
  connect(events: LineEvents): Promise<Line>
  /** Ends the connections that were made here, and leaves those of the user. A {@link Line} is ended by whoever has it. */
  close(): Promise<void>
}

/** What happens on a {@link Line} beside its answers. */
export interface LineEvents {
  /** A notification on a channel that the connection listens to. Anybody who may connect to the database can send it. */
  notified(channel: string, payload: string): void
  /** The connection has ended. May be called more than once, also before `connect` settles and after `drop`. */
  lost(): void
}

/** One connection, for LISTEN. It is never made anew: what it listened to would be lost without a word. */
export interface Line {
  /** Statements without parameters, in one round trip and one transaction. Resolves with what the last one selects. */
  run(statements: readonly string[], limit: number): Promise<Row[]>
  /** One statement, which is prepared the first time. */
  query(text: string, values: readonly Value[], limit: number): Promise<Row[]>
  /** Ends the connection, whatever its state. Resolves once it has ended, or it cannot be waited for. */
  drop(): Promise<void>
}

/** How long connecting may take, in milliseconds, where the connection is made here. */
export const CONNECT_TIMEOUT = 5_000

/** How long making a {@link Line} may take, in milliseconds. Shorter, because after an outage everybody waits for it. */
export const LINE_CONNECT_TIMEOUT = 3_000

/** How long a {@link Line} that is dropped may take to end, in milliseconds. */
export const LINE_END_TIMEOUT = 1_000

/** How long a statement may take unless something else is said, in milliseconds. */
export const QUERY_TIMEOUT = 5_000

/** The most connections of a pool that is made here. */
export const POOL_SIZE = 10

/** What connections that are made here are called in `pg_stat_activity`. */
export const APPLICATION = 'mcp-roam'

/** What a library read, as text. */
export function texts(row: readonly unknown[]): Row {
  return row.map((value) => (value === null || value === undefined ? null : String(value)))
}

/** What is used after `close` rejects with this. */
export function closedError(): Error {
  return new Error('postgres: closed')
}

/**
 * Whether an error is the server's answer to a statement. If not, the connection failed, or was late. Codes of PostgreSQL have
 * five characters; those that begin with 08 or 57P say that the connection ends.
 */
export function isAnswer(error: unknown): boolean {
  const { code } = Object(error) as { code?: unknown }
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !/^(08|57P)/.test(code)
}
