/** A session store of your own, as small as it gets: a `Map`. Nothing awaits between look and write, so it compares and sets. */
import { type SessionStore, TOMBSTONE_TTL } from 'mcp-roam'

export function mapStore(): SessionStore {
  const entries = new Map<string, { json: string | undefined; expires: number }>() // json undefined: a tombstone
  const find = (id: string) => {
    const entry = entries.get(id)
    if (entry && entry.expires <= Date.now()) entries.delete(id)
    else return entry
  }
  const recordOf = (id: string) => {
    const json = find(id)?.json
    return json === undefined ? undefined : JSON.parse(json)
  }
  const put = (id: string, json: string | undefined, ttl: number) =>
    entries.set(id, { json, expires: Date.now() + ttl })

  return {
    create: async (record, ttl) => !find(record.id) && !!put(record.id, JSON.stringify(record), ttl),
    async load(id) {
      const record = recordOf(id)
      return record && { record }
    },
    async update(record, expected, ttl) {
      if (recordOf(record.id)?.revision !== expected) return undefined
      put(record.id, JSON.stringify(record), ttl)
      return {}
    },
    touch: async (id, ttl) => !!recordOf(id) && !!put(id, find(id)?.json, ttl),
    async delete(id) {
      const existed = !!recordOf(id)
      put(id, undefined, TOMBSTONE_TTL)
      return existed ? {} : undefined
    },
    async *list() {
      for (const id of [...entries.keys()]) {
        const record = recordOf(id)
        if (record) yield record
      }
    },
  }
}
