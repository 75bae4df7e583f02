/**
 * What tells the events of a standalone stream apart. Any node writes there, so a log that went backwards (a failover with lag)
 * gives out positions again, and two notifications may well read the same: neither says whether an event was written before.
 * So each is stored as `[mark,message]`, with a number of its own.
 */
import { createHash, randomInt } from 'node:crypto'

const MARKS = 2 ** 31

/** How a message is stored. Nodes that send it under the same `batch` store the same. */
export function withMark(text: string, batch?: string): string {
  const mark =
    batch === undefined ? randomInt(MARKS) : createHash('sha256').update(batch).digest().readUInt32BE() % MARKS
  return `[${mark},${text}]`
}

/** What was stored: a message and its mark; one that was stored without has 0. */
export function readMarked(data: string): { mark: number; text: string } {
  if (!data.startsWith('[')) return { mark: 0, text: data }
  const comma = data.indexOf(',')
  return { mark: Number(data.slice(1, comma)), text: data.slice(comma + 1, -1) }
}
