/**
 * How JavaScript values become parameters: PostgreSQL's text holds neither a NUL character nor half a surrogate pair, its
 * index entries are limited to about 2,700 bytes, and its numbers and dates end somewhere.
 */
import { createHash } from 'node:crypto'

/** What text cannot hold, and U+0001, which marks what was changed. JSON text has none of these, so it is stored as it is. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that it is about
const UNSTORABLE = /[\u0000\u0001]|\p{Surrogate}/u
const EACH_UNSTORABLE = new RegExp(UNSTORABLE, 'gu')
// biome-ignore lint/suspicious/noControlCharactersInRegex: the mark
const EACH_MARKED = /\u0001([0-9a-f]{4})/g

/** Longest name that is stored as it is, in UTF-16 code units. Two names of 4 bytes a character fit one index entry. */
const NAME_LIMIT = 200

/**
 * What a name (session id, stream id, state key, topic, batch id, node) is stored as: different for different names, and short
 * enough for an index. Most names are stored as they are. Of the others a hash is stored, which cannot be turned back.
 */
export function key(name: string): string {
  if (name.length <= NAME_LIMIT && !UNSTORABLE.test(name)) return name
  // Hashed as UTF-16, because in UTF-8 all halves of surrogate pairs are the same.
  return `\u0001${createHash('sha256').update(name, 'utf16le').digest('hex')}`
}

/** Any string as storable text; {@link decode} gives it back. */
export function encode(value: string): string {
  if (!UNSTORABLE.test(value)) return value
  return value.replace(EACH_UNSTORABLE, (unit) => `\u0001${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** The string that {@link encode} was given. */
export function decode(text: string): string {
  if (!text.includes('\u0001')) return text
  return text.replace(EACH_MARKED, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
}

/** Milliseconds that the database's calendar has room for: at most about 300 years. */
export function duration(ms: number): number {
  return Math.min(ms, 1e13)
}

/** A number as a bigint takes it: whole, not negative, and not Infinity. */
export function whole(value: number): number {
  return Math.floor(Math.max(0, Math.min(value, Number.MAX_SAFE_INTEGER)))
}
