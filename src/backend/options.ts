/**
 * Checks of options that all backends share. What is wrong is a TypeError when the backend is made, whose message says what to
 * write instead. It repeats no value that was given, because an address may hold a password.
 */
import { DEFAULT_RETENTION, FINISHED_TTL, type Retention } from './backend.js'

/** Throws unless the options are an object without unknown names. */
export function checkNames(where: string, options: object, known: readonly string[]): void {
  const list = known.map((name) => `\`${name}\``).join(', ')
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`${where}: write an object; the options are ${list}`)
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || known.includes(name)) continue
    // Only a plain word is repeated: an address that got into the place of a name could hold a password.
    const unknown = /^\w+$/.test(name) ? `there is no option \`${name}\`` : 'there is no such option'
    throw new TypeError(`${where}: ${unknown}; the options are ${list}`)
  }
}

/** Throws unless the value is a number of at least 1. */
export function checkNumber(where: string, option: string, value: unknown): void {
  if (typeof value !== 'number' || !(value >= 1)) {
    throw new TypeError(`${where}: \`${option}\` must be a number of at least 1`)
  }
}

/** Throws unless the value is a function. */
export function checkClock(where: string, now: unknown): void {
  if (typeof now !== 'function') throw new TypeError(`${where}: \`now\` must be a function, such as Date.now`)
}

/** The retention, with the default for each value that is left out. Throws if a value cannot be right. */
export function checkRetention(where: string, retention: Retention = {}): Required<Retention> {
  checkNames(`${where}: \`retention\``, retention, Object.keys(DEFAULT_RETENTION))
  const {
    ttl = DEFAULT_RETENTION.ttl,
    maxEvents = DEFAULT_RETENTION.maxEvents,
    maxBytes = DEFAULT_RETENTION.maxBytes,
    maxSessionBytes = DEFAULT_RETENTION.maxSessionBytes,
  } = retention
  const all = { ttl, maxEvents, maxBytes, maxSessionBytes }
  for (const [name, value] of Object.entries(all)) checkNumber(where, `retention.${name}`, value)
  return all
}

/** How long a stream is kept after an append, in milliseconds. */
export function keptFor({ ttl }: Required<Retention>, ended: boolean): number {
  return ended ? Math.min(FINISHED_TTL, ttl) : ttl
}
