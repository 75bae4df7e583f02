/** Session records and state, sealed. What a store needs to keep them, and to compare revisions, stays in the open. */
import { isObject } from '../../wire/jsonrpc.js'
import type { SessionRecord, SessionStore, StoredSession } from '../backend.js'
import { problemWith, type UnreadRecord } from '../record.js'
import { Unreadable } from '../unavailable.js'
import { isSealed, type Keyring } from './keyring.js'

/**
 * What a store is given in place of a record. Its version is one that nodes without keys, and releases without encryption, do
 * not know: they answer 503. All that is in the open is associated data of what is sealed.
 */
interface SealedRecord extends Pick<SessionRecord, 'id' | 'revision' | 'ancestors' | 'createdAt'> {
  version: 2
  /** The record, without what is in the open. */
  sealed: string
}

const RECORD = 'a session record'
const VALUE = 'a value of a session’s state'

export function sealedSessions(sessions: SessionStore, keyring: Keyring): SessionStore {
  const { look, release, getState, setState } = sessions
  const box = (id: string) => keyring.box('session', id)

  const seal = (record: SessionRecord): SessionRecord => {
    if (keyring.writesPlain) return record
    const { id, revision, ancestors, createdAt, ...rest } = record
    const open = { id, revision, ...(ancestors && { ancestors }), createdAt }
    const sealed: SealedRecord = {
      version: 2,
      ...open,
      sealed: box(id).seal(aboutRecord(record), JSON.stringify(rest)),
    }
    // To a store it is a record like any other: plain JSON with an id and a revision.
    return sealed as unknown as SessionRecord
  }

  /** @param id Under which it was found: a store in which records were swapped gives the record of another session. */
  const open = (stored: SessionRecord | SealedRecord, id: string): SessionRecord => {
    if (!isSealedRecord(stored)) {
      // What is damaged is no plain text that somebody should let pass.
      const problem = problemWith(stored, id)
      if (problem) throw problem
      keyring.checkPlain(RECORD)
      return stored
    }
    const { revision, ancestors, createdAt } = stored
    const rest = box(id).open(aboutRecord({ ...stored, id }), stored.sealed, RECORD)
    return { ...JSON.parse(rest), id, revision, ...(ancestors && { ancestors }), createdAt }
  }

  return {
    create: async (record, ttl, holder) => sessions.create(seal(record), ttl, holder),
    async load(id, holder): Promise<StoredSession | undefined> {
      const session = await sessions.load(id, holder)
      return session && { ...session, record: open(session.record, id) }
    },
    ...(look && { look: (ids) => look.call(sessions, ids) }),
    ...(release && { release: (id, holders) => release.call(sessions, id, holders) }),
    update: async (record, expected, ttl) => sessions.update(seal(record), expected, ttl),
    touch: (id, ttl) => sessions.touch(id, ttl),
    delete: (id) => sessions.delete(id),

    /** What cannot be read is in its place an {@link UnreadRecord}. */
    async *list() {
      for await (const stored of sessions.list()) {
        let record: SessionRecord
        try {
          record = open(stored, stored.id)
        } catch (error) {
          if (!(error instanceof Unreadable)) throw error
          const unread: UnreadRecord = { version: 2, id: stored.id, createdAt: stored.createdAt, problem: error }
          record = unread as unknown as SessionRecord
        }
        yield record
      }
    },

    ...(getState && {
      async getState(id, key) {
        const entry = await getState.call(sessions, id, key)
        return entry && { ...entry, value: box(id).open(['state', key], entry.value, VALUE) }
      },
    }),
    ...(setState && {
      async setState(id, key, value, expected, limit) {
        const sealed = value === undefined ? undefined : box(id).seal(['state', key], value)
        return setState.call(sessions, id, key, sealed, expected, limit)
      },
    }),
  }
}

function isSealedRecord(record: unknown): record is SealedRecord {
  return isObject(record) && record.version === 2 && typeof record.sealed === 'string' && isSealed(record.sealed)
}

/** What is in the open must be what it was when the rest was sealed. */
function aboutRecord({
  id,
  revision,
  ancestors,
  createdAt,
}: Pick<SealedRecord, 'id' | 'revision' | 'ancestors' | 'createdAt'>) {
  return ['record', id, revision, ancestors ?? null, createdAt]
}
