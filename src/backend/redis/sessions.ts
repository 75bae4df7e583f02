/** A session is one hash with its record and its state, so that both expire together. */
import { type SessionRecord, type SessionStore, TOMBSTONE_TTL } from '../backend.js'
import { type Keys, wellFormed } from './keys.js'
import type { Link } from './link.js'
import type { Writes } from './replicas.js'
import { milliseconds, run, script } from './script.js'

// Fields of the hash: `record`, `revision`, `changes` (counts changes of state), and `state:<key>` = "<revision> <value>".

const CREATE = script(`
if redis.call('GET', KEYS[2]) == 'session' or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`)

const UPDATE = script(`
if redis.call('HGET', KEYS[1], 'revision') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
`)

const DELETE = script(`
redis.call('SET', KEYS[2], 'session', 'PX', ARGV[1])
return redis.call('DEL', KEYS[1])
`)

const SET_STATE = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
if ARGV[2] ~= '' then
  local entry = redis.call('HGET', KEYS[1], ARGV[1])
  if (entry and string.match(entry, '^%d+') or '0') ~= ARGV[2] then return 'conflict' end
end
if ARGV[3] then
  local revision = redis.call('HINCRBY', KEYS[1], 'changes', 1)
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', revision) .. ARGV[3])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 'ok'
`)

/** @param writes The way of what a session's existence and record depend on. */
export function sessionStore(link: Link, keys: Keys, writes: Writes = link): Required<SessionStore> {
  const both = (id: string) => [keys.session(id), keys.deleted(id)]
  const field = (key: string) => `state:${wellFormed(key)}`

  return {
    async create(record, ttl) {
      const args = [JSON.stringify(record), String(record.revision), milliseconds(ttl)]
      return (await run(writes, CREATE, both(record.id), args)) === 1
    },

    async load(id) {
      const key = keys.session(id)
      return parse(await link.send(key, ['hget', key, 'record']))
    },

    async update(record, expected, ttl) {
      const args = [JSON.stringify(record), String(record.revision), String(expected), milliseconds(ttl)]
      return (await run(writes, UPDATE, [keys.session(record.id)], args)) === 1
    },

    async touch(id, ttl) {
      const key = keys.session(id)
      return (await link.send(key, ['pexpire', key, milliseconds(ttl)])) === 1
    },

    async delete(id) {
      return (await run(writes, DELETE, both(id), [milliseconds(TOMBSTONE_TTL)])) === 1
    },

    async *list() {
      for (const send of await link.masters()) {
        // SCAN may give a key twice.
        const seen = new Set<string>()
        let cursor = '0'
        do {
          const reply = await send(['scan', cursor, 'match', keys.sessions, 'count', '500', 'type', 'hash'])
          const [next, found] = reply as [string, string[]]
          cursor = String(next)
          const fresh = found.filter((key) => !seen.has(key))
          for (const key of fresh) seen.add(key)
          const records = await Promise.all(fresh.map((key) => link.send(key, ['hget', key, 'record'])))
          for (const record of records) {
            const parsed = parse(record)
            if (parsed) yield parsed
          }
        } while (cursor !== '0')
      }
    },

    async getState(id, key) {
      const name = keys.session(id)
      const entry = await link.send(name, ['hget', name, field(key)])
      if (typeof entry !== 'string') return undefined
      const blank = entry.indexOf(' ')
      return { value: entry.slice(blank + 1), revision: Number(entry.slice(0, blank)) }
    },

    async setState(id, key, value, expected) {
      const args = [field(key), expected === undefined ? '' : String(expected)]
      if (value !== undefined) args.push(value)
      const outcome = await run(link, SET_STATE, [keys.session(id)], args)
      return outcome === 'ok' || outcome === 'conflict' ? outcome : 'gone'
    },
  }
}

function parse(record: unknown): SessionRecord | undefined {
  return typeof record === 'string' ? (JSON.parse(record) as SessionRecord) : undefined
}
