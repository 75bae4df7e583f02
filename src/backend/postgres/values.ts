/**
 * How JavaScript values become parameters: PostgreSQL's text holds neither a NUL character nor half a surrogate pair, its
 * index entries are limited to about 2,700 bytes, and its numbers and dates end somewhere.
 */
import { createHash } from 'node:crypto'

/** What text cannot hold, and U+0001, with which we mark what we changed. It never occurs in JSON text, so JSON is stored as it is. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that it is about
const UNSTORABLE = /[\u0000\u0001]|\p{Surrogate}/u
const EACH_UNSTORABLE = new RegExp(UNSTORABLE, 'gu')
// biome-ignore lint/suspicious/noControlCharactersInRegex: the mark
const EACH_MARKED = /\u0001([0-9a-f]{4})/g

/** Up to here a name is stored as it is, in UTF-16 code units: two of them, at 4 bytes each, fit one index entry. */
const NAME_LIMIT = 200

/**
 * What a name (session id, stream id, state key, topic, batch id, node) is stored under: different for different names, short
 * enough for an index. Most are stored as they are; there is no way back from the others.
 */
export function key(name: string): string {
  if (name.length <= NAME_LIMIT && !UNSTORABLE.test(name)) return name
  // As UTF-16, because in UTF-8 all halves of surrogate pairs look alike.
  return `\u0001${createHash('sha256').update(name, 'utf16le').digest('hex')}`
}

/** Any string as storable text; {@link decode} gives it back. */
export function encode(value: string): string {
  if (!UNSTORABLE.test(value)) return value
  return value.replace(EACH_UNSTORABLE, (unit) => `\u0001${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

export function decode(text: string): string {
  if (!text.includes('\u0001')) return text
  return text.replace(EACH_MARKED, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
}

/** Milliseconds that the database's calendar has room for: "forever" is 300 years. */
export function duration(ms: number): number {
  return Math.min(ms, 1e13)
}

/** As a bigint, which has no Infinity. */
export function whole(value: number): number {
  return Math.floor(Math.max(0, Math.min(value, Number.MAX_SAFE_INTEGER)))
}
