/** Ids, records and texts of the contract suites. */
import { randomUUID } from 'node:crypto'
import type { SessionRecord } from '../backend/backend.js'

export function randomId(prefix = ''): string {
  return prefix + randomUUID()
}

/** A new record, revision 1, with a random id. */
export function newRecord(changes: Partial<SessionRecord> = {}): SessionRecord {
  return {
    version: 1,
    id: randomId(),
    revision: 1,
    createdAt: 1_700_000_000_000,
    principal: null,
    protocolVersion: '2025-11-25',
    journal: {
      initialize: {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'contract', version: '1.0.0' },
      },
      initialized: false,
      subscriptions: [],
    },
    ...changes,
  }
}

/** The record's next revision, told apart from others of the same revision by `mark`. */
export function nextRevision(record: SessionRecord, mark: string): SessionRecord {
  return {
    ...record,
    revision: record.revision + 1,
    journal: { ...record.journal, initialized: true, subscriptions: [...record.journal.subscriptions, mark] },
  }
}

/**
 * Texts that break careless key building, SQL, globs, property names or encodings. All are different, some only by case,
 * Unicode normalization, or a blank. `tag` makes them unique in a shared database.
 */
export function hostileTexts(tag: string): string[] {
  return [
    `'${tag}`,
    `"${tag}"; DROP TABLE sessions; --`,
    `' OR '1'='1' -- ${tag}`,
    `\\${tag}\\'`,
    `$1${tag}$$`,
    `__proto__${tag}`,
    `${tag}*`,
    `${tag}?`,
    `${tag}[a-z]`,
    `${tag}>`,
    `${tag}.>`,
    `${tag}%`,
    `${tag}_`,
    `{${tag}}`,
    `{${tag}}:{${tag}}`,
    `${tag}:`,
    `:${tag}`,
    `${tag}:a:b`,
    `${tag}/../${tag}`,
    `${tag}%00`,
    `${tag}\\u0000`,
    `${tag}\u0001\u001f`,
    `${tag}\r\n`,
    `${tag}\u2028`,
    `${tag} `,
    ` ${tag}`,
    `${tag}é`,
    `${tag}e\u0301`,
    `${tag}A`,
    `${tag}a`,
    `${tag}🙂`,
    `${tag}null`,
    `${tag}0`,
    `${tag}00`,
    `${tag}${randomText(1000)}`,
  ]
}

/** Names that mean something to a JavaScript object, as they are: in a shared database they cannot be ids, which must be unique. */
export const PROPERTY_NAMES = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', '0', 'null', 'undefined']

/** Text that does not compress, of `length` UTF-16 code units. */
export function randomText(length: number): string {
  let text = ''
  while (text.length < length) text += randomUUID()
  return text.slice(0, length)
}
