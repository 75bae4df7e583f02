/** A session store of your own over keyv, and so over anything keyv has an adapter for. */
import type Keyv from 'keyv'
import { type SessionRecord, type SessionStore, TOMBSTONE_TTL } from 'mcp-roam'

/**
 * Give it a `Keyv` of its own: `list()` goes through every key. keyv cannot compare and set, so that of two nodes that write
 * one session at the same moment the last wins.
 *
 * @throws TypeError unless `throwOnErrors` is on: without it a database that fails looks like one without the session, and the
 *   client is told 404 (its session is gone) where 503 (try again) is the truth.
 */
export function keyvStore(keyv: Keyv): SessionStore {
  if (!keyv.throwOnErrors) throw new TypeError('keyvStore needs new Keyv({ throwOnErrors: true })')
  const recordKey = (id: string) => `session:${id}`
  const tombstoneKey = (id: string) => `deleted:${id}`

  // JSON text, so that nobody shares an object with a store that keeps what it is given.
  const put = (record: SessionRecord, ttl: number) => keyv.set(recordKey(record.id), JSON.stringify(record), ttl)
  const find = async (id: string): Promise<SessionRecord | undefined> => {
    // Asked as well as the record: a write that overlapped a delete may have put the record back.
    if (await keyv.get(tombstoneKey(id))) return undefined
    const json = await keyv.get<string>(recordKey(id))
    return json === undefined ? undefined : JSON.parse(json)
  }

  return {
    async create(record, ttl) {
      if ((await keyv.get(tombstoneKey(record.id))) || (await find(record.id))) return false
      return put(record, ttl)
    },
    async load(id) {
      const record = await find(id)
      return record && { record }
    },
    async update(record, expected, ttl) {
      if ((await find(record.id))?.revision !== expected) return undefined
      await put(record, ttl)
      return {}
    },
    async touch(id, ttl) {
      const record = await find(id)
      return record !== undefined && (await put(record, ttl))
    },
    async delete(id) {
      const record = await find(id)
      await keyv.set(tombstoneKey(id), true, TOMBSTONE_TTL)
      await keyv.delete(recordKey(id))
      return record && {}
    },
    async *list() {
      if (!keyv.iterator) throw new Error('This keyv adapter cannot list its keys.')
      for await (const [key] of keyv.iterator(keyv.namespace)) {
        const record = key.startsWith(recordKey('')) ? await find(key.slice(recordKey('').length)) : undefined
        if (record) yield record
      }
    },
  }
}
