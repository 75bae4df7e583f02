import { type Held, OWN_STATE, type SessionStore, TOMBSTONE_TTL } from '../backend.js'
import { recordIn } from '../record.js'
import { type Clock, ExpiringMap } from './expiring-map.js'

interface MemorySession {
  /** JSON text, so that nobody shares an object with the store. */
  record: string
  revision: number
  holders: Set<string>
  state: Map<string, { value: string; revision: number }>
}

export function sessionStore(now: Clock, tombstones: ExpiringMap<true>): Required<SessionStore> {
  const sessions = new ExpiringMap<MemorySession>(now)
  // One counter for all values, so that a value that is removed and set again gets a revision that it never had.
  let revisions = 0

  return {
    async create(record, ttl, holder) {
      if (sessions.get(record.id) || tombstones.get(record.id)) return false
      const { id, revision } = record
      const holders = new Set(holder === undefined ? [] : [holder])
      sessions.set(id, { record: JSON.stringify(record), revision, holders, state: new Map() }, ttl)
      return true
    },

    async load(id, holder) {
      const stored = sessions.get(id)
      if (!stored) return undefined
      if (holder !== undefined) stored.holders.add(holder)
      return { record: recordIn(id, stored.record), ...heldBy(stored) }
    },

    async look(ids) {
      return ids.map((id) => {
        const stored = sessions.get(id)
        return stored && { revision: stored.revision, ...heldBy(stored) }
      })
    },

    async release(id, holders) {
      for (const holder of holders) sessions.get(id)?.holders.delete(holder)
    },

    async update(record, expected, ttl) {
      const stored = sessions.get(record.id)
      if (stored?.revision !== expected) return undefined
      stored.record = JSON.stringify(record)
      stored.revision = record.revision
      sessions.set(record.id, stored, ttl)
      return heldBy(stored)
    },

    async touch(id, ttl) {
      const stored = sessions.get(id)
      if (!stored) return false
      sessions.set(id, stored, ttl)
      return true
    },

    async delete(id) {
      const stored = sessions.get(id)
      tombstones.set(id, true, TOMBSTONE_TTL)
      sessions.delete(id)
      return stored && heldBy(stored)
    },

    async *list() {
      for (const id of sessions.keys()) {
        const stored = sessions.get(id)
        if (stored) yield recordIn(id, stored.record)
      }
    },

    async getState(id, key) {
      const entry = sessions.get(id)?.state.get(key)
      return entry && { ...entry }
    },

    async setState(id, key, value, expected, limit) {
      const state = sessions.get(id)?.state
      if (!state) return 'gone'
      const before = state.get(key)
      if (expected !== undefined && (before?.revision ?? 0) !== expected) return 'conflict'
      if (limit && value !== undefined) {
        const others = [...state].filter(([name]) => name !== key && !name.startsWith(OWN_STATE))
        const size = others.reduce((sum, [name, entry]) => sum + name.length + entry.value.length, 0)
        if (!before && others.length >= limit.keys) return 'too-many'
        const isMore = !before || value.length > before.value.length
        if (isMore && size + key.length + value.length > limit.size) return 'too-large'
      }
      if (value === undefined) state.delete(key)
      else state.set(key, { value, revision: ++revisions })
      return 'ok'
    },
  }
}

function heldBy({ holders }: MemorySession): Held {
  return { holders: [...holders] }
}
