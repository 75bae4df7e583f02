import { type SessionRecord, type SessionStore, TOMBSTONE_TTL } from '../backend.js'
import { type Clock, ExpiringMap } from './expiring-map.js'

interface StoredSession {
  /** JSON text, so that nobody shares an object with the store. */
  record: string
  revision: number
  state: Map<string, { value: string; revision: number }>
}

export function sessionStore(now: Clock, tombstones: ExpiringMap<true>): Required<SessionStore> {
  const sessions = new ExpiringMap<StoredSession>(now)
  // One counter for all values, so that a value that is removed and set again gets a revision that it never had.
  let revisions = 0

  return {
    async create(record, ttl) {
      if (sessions.get(record.id) || tombstones.get(record.id)) return false
      sessions.set(record.id, { record: JSON.stringify(record), revision: record.revision, state: new Map() }, ttl)
      return true
    },

    async load(id) {
      return parse(sessions.get(id))
    },

    async update(record, expected, ttl) {
      const stored = sessions.get(record.id)
      if (stored?.revision !== expected) return false
      stored.record = JSON.stringify(record)
      stored.revision = record.revision
      sessions.set(record.id, stored, ttl)
      return true
    },

    async touch(id, ttl) {
      const stored = sessions.get(id)
      if (!stored) return false
      sessions.set(id, stored, ttl)
      return true
    },

    async delete(id) {
      tombstones.set(id, true, TOMBSTONE_TTL)
      return sessions.delete(id)
    },

    async *list() {
      for (const id of sessions.keys()) {
        const record = parse(sessions.get(id))
        if (record) yield record
      }
    },

    async getState(id, key) {
      const entry = sessions.get(id)?.state.get(key)
      return entry && { ...entry }
    },

    async setState(id, key, value, expected) {
      const state = sessions.get(id)?.state
      if (!state) return 'gone'
      if (expected !== undefined && (state.get(key)?.revision ?? 0) !== expected) return 'conflict'
      if (value === undefined) state.delete(key)
      else state.set(key, { value, revision: ++revisions })
      return 'ok'
    },
  }
}

function parse(stored: StoredSession | undefined): SessionRecord | undefined {
  return stored && JSON.parse(stored.record)
}
