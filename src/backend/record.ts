/** What a store holds in place of a session record: whether it is one, and one that can be served. */
import { jsonIn } from '../util/json.js'
import { isObject } from '../wire/jsonrpc.js'
import { isSessionId } from '../wire/rules.js'
import type { SessionRecord } from './backend.js'
import { Unreadable } from './unavailable.js'

/** Stands in a listing for a record that is encrypted and cannot be read. */
export interface UnreadRecord extends Pick<SessionRecord, 'id' | 'createdAt'> {
  version: 2
  problem: Unreadable
}

/**
 * The record of a session in a store's text. A text that is none makes something unfit, with the id if that is one: whoever
 * lists records can say which one it was, and go on.
 *
 * @param id As the store has it.
 */
export function recordIn(id: string, text: unknown): SessionRecord {
  const value = typeof text === 'string' ? jsonIn(text) : undefined
  // A store may keep an id that is not plain text in another form.
  if (isObject(value) && (value.id === id || !isSessionId(id))) return value as unknown as SessionRecord
  return { id } as SessionRecord
}

/**
 * Why a record cannot be served; undefined: it can. It says which member is at fault, and not what is in it.
 *
 * @param record Anything: a store is written by others, too.
 * @param id The session that was asked for, if it was one.
 */
export function problemWith(record: unknown, id?: string): Unreadable | undefined {
  if (!isObject(record)) return new Unreadable('the record is not an object')
  const { version, problem } = record
  if (problem instanceof Unreadable) return problem
  if (version !== 1) {
    return new Unreadable(
      typeof version === 'number'
        ? `the record is of version ${version}, which is not known here`
        : 'what is stored is not the record of this session',
    )
  }
  if (id !== undefined && record.id !== id) return new Unreadable("the record is another session's")
  const bad = Object.entries(RECORD).find(([name, isRight]) => !isRight(record[name]))
  return bad && new Unreadable(`the record's ${bad[0]} cannot be what it is`)
}

const isText = (value: unknown) => typeof value === 'string'
const isRevision = (value: unknown) => Number.isSafeInteger(value) && Number(value) > 0
const isListOf = (isItem: (value: unknown) => boolean) => (value: unknown) =>
  Array.isArray(value) && value.every(isItem)
const isLeftOutOr = (isRight: (value: unknown) => boolean) => (value: unknown) => value === undefined || isRight(value)

/** The members of a record of version 1. */
const RECORD: Record<Exclude<keyof SessionRecord, 'version'>, (value: unknown) => boolean> = {
  id: isText,
  revision: isRevision,
  ancestors: isLeftOutOr(isListOf(isRevision)),
  createdAt: Number.isFinite,
  principal: (value) => value === null || isText(value),
  protocolVersion: isText,
  journal: (value) =>
    isObject(value) &&
    isObject(value.initialize) &&
    typeof value.initialized === 'boolean' &&
    isLeftOutOr(isObject)(value.setLevel) &&
    isListOf(isText)(value.subscriptions),
}
