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
  /** Connects at the first `ready()`. The channel must be a name that needs no escaping inside double quotes. */
  listen(channel: string, onPayload: (payload: string) => void): Listening
  /** Ends the connections that were made here, and leaves those of the user. */
  close(): Promise<void>
}

/** A connection that does nothing but listen to a channel. Once it was ready, it connects again by itself after a loss. */
export interface Listening {
  /**
   * Rejects when it cannot connect. Resolving does not prove that the connection is there at this moment: postgres.js does not
   * tell when it is lost.
   */
  ready(): Promise<void>
  close(): Promise<void>
}

/** How long connecting may take, in milliseconds, where the connection is made here. */
export const CONNECT_TIMEOUT = 5_000

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
