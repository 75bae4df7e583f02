/** What the rest of the backend sees of `pg` or `postgres` (postgres.js), and what both are told alike. */

/** Milliseconds to wait for a connection of our own, and for the answer to a statement on whatever connection. */
export const CONNECT_TIMEOUT = 5_000
export const QUERY_TIMEOUT = 5_000

/** Connections of our own pool. */
export const POOL_SIZE = 10

export const APPLICATION = 'mcp-roam'

/** No arrays, dates or JSON: the two libraries write those differently. */
export type Value = string | number | boolean | null

/** A statement selects text (or casts to it), nothing else. */
export type Row = readonly (string | null)[]

export interface Client {
  /** One statement, one round trip; values go as parameters. Rejects after `limit` milliseconds; default 5 seconds. */
  query(text: string, values: readonly Value[], limit?: number): Promise<Row[]>
  /** Connects at the first `ready()`. The channel must be a valid identifier. */
  listen(channel: string, heard: (payload: string) => void): Listening
  /** Ends what we opened, and nothing else. */
  close(): Promise<void>
}

/** A dedicated connection that listens to a channel and, once it was ready, connects again by itself. */
export interface Listening {
  /** Rejects when it cannot connect. That it resolves does not prove that the connection is still there: postgres.js hides that. */
  ready(): Promise<void>
  close(): Promise<void>
}

export function texts(row: readonly unknown[]): Row {
  return row.map((value) => (value === null || value === undefined ? null : String(value)))
}
