/** A session is one hash with its record and its state, so that both expire together. */
import { type Held, OWN_STATE, type SessionStore, type SetStateOutcome, TOMBSTONE_TTL } from '../backend.js'
import { recordIn } from '../record.js'
import { type Keys, wellFormed } from './keys.js'
import type { Link } from './link.js'
import type { Writes } from './replicas.js'
import { milliseconds, run, script } from './script.js'

// Fields of the hash: `record`, `revision`, `holders` (names with a blank after each), `changes` (counts changes of state), and
// `state:<key>` = "<revision> <value>" with `size:<key>` (UTF-16 code units of key and value; absent: the version before wrote it).

const CREATE = script(`
if redis.call('GET', KEYS[2]) == 'session' or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[2], 'holders', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`)

const LOAD_AND_HOLD = script(`
local record, holders = unpack(redis.call('HMGET', KEYS[1], 'record', 'holders'))
if not record and not holders then return {} end
holders = holders or ''
if not string.find(' ' .. holders, ' ' .. ARGV[1], 1, true) then
  holders = holders .. ARGV[1]
  redis.call('HSET', KEYS[1], 'holders', holders)
end
return {record, holders}
`)

const LOOK = script(`
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HMGET', key, 'revision', 'holders') end
return found
`)

const RELEASE = script(`
local holders = redis.call('HGET', KEYS[1], 'holders')
if not holders then return 0 end
local gone = {}
for _, holder in ipairs(ARGV) do gone[holder] = true end
local left = string.gsub(holders, '[^ ]+ ', function(holder) return gone[holder] and '' or holder end)
if left ~= holders then redis.call('HSET', KEYS[1], 'holders', left) end
return 1
`)

const UPDATE = script(`
local revision, holders = unpack(redis.call('HMGET', KEYS[1], 'revision', 'holders'))
if revision ~= ARGV[3] then return false end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'revision', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return holders or ''
`)

const DELETE = script(`
local revision, holders = unpack(redis.call('HMGET', KEYS[1], 'revision', 'holders'))
redis.call('SET', KEYS[2], 'session', 'PX', ARGV[1])
redis.call('DEL', KEYS[1])
return revision and (holders or '')
`)

// ARGV: the key, the revision that is expected, how many keys and code units there may be, the code units of key and value, the value.
const SET_STATE = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
local field, sized = 'state:' .. ARGV[1], 'size:' .. ARGV[1]
if ARGV[2] ~= '' then
  local entry = redis.call('HGET', KEYS[1], field)
  if (entry and string.match(entry, '^%d+') or '0') ~= ARGV[2] then return 'conflict' end
end
if ARGV[3] ~= '' and ARGV[6] then
  local keys, total, before = 0, 0, false
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local key = string.match(name, '^state:(.*)$')
    if key and string.sub(key, 1, ${OWN_STATE.length}) ~= '${OWN_STATE}' then
      local size = tonumber(redis.call('HGET', KEYS[1], 'size:' .. key) or redis.call('HSTRLEN', KEYS[1], name))
      if name == field then before = size
      else keys, total = keys + 1, total + size end
    end
  end
  local size = tonumber(ARGV[5])
  if not before and keys >= tonumber(ARGV[3]) then return 'too-many' end
  if total + size > tonumber(ARGV[4]) and size > (before or 0) then return 'too-large' end
end
if ARGV[6] then
  local revision = redis.call('HINCRBY', KEYS[1], 'changes', 1)
  redis.call('HSET', KEYS[1], field, string.format('%.0f ', revision) .. ARGV[6], sized, ARGV[5])
else
  redis.call('HDEL', KEYS[1], field, sized)
end
return 'ok'
`)

/** @param writes The way of what a session's existence and record depend on. */
export function sessionStore(link: Link, keys: Keys, writes: Writes = link): Required<SessionStore> {
  const both = (id: string) => [keys.session(id), keys.deleted(id)]

  return {
    async create(record, ttl, holder) {
      const holders = holder === undefined ? '' : word(holder)
      const args = [JSON.stringify(record), String(record.revision), milliseconds(ttl), holders]
      return (await run(writes, CREATE, both(record.id), args)) === 1
    },

    async load(id, holder) {
      const key = keys.session(id)
      const loaded =
        holder === undefined
          ? await link.send(key, ['hmget', key, 'record', 'holders'])
          : await run(link, LOAD_AND_HOLD, [key], [word(holder)])
      const [text, holders] = loaded as unknown[]
      // A hash without a record is a session all the same, one that is damaged.
      if (typeof text !== 'string' && typeof holders !== 'string') return undefined
      return { record: recordIn(id, text), ...heldBy(holders ?? '') }
    },

    async look(ids) {
      const names = ids.map((id) => keys.session(id))
      const one = (key: string) => link.send(key, ['hmget', key, 'revision', 'holders'])
      const found = (await link.hasOneServer()) ? run(link, LOOK, names) : Promise.all(names.map(one))
      return ((await found) as [unknown, unknown][]).map(([revision, holders]) =>
        typeof revision === 'string' ? { revision: Number(revision), ...heldBy(holders ?? '') } : undefined,
      )
    },

    async release(id, holders) {
      await run(link, RELEASE, [keys.session(id)], holders.map(word))
    },

    async update(record, expected, ttl) {
      const args = [JSON.stringify(record), String(record.revision), String(expected), milliseconds(ttl)]
      return heldBy(await run(writes, UPDATE, [keys.session(record.id)], args))
    },

    async touch(id, ttl) {
      const key = keys.session(id)
      return (await link.send(key, ['pexpire', key, milliseconds(ttl)])) === 1
    },

    async delete(id) {
      return heldBy(await run(writes, DELETE, both(id), [milliseconds(TOMBSTONE_TTL)]))
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
          const ask = (key: string) => link.send(key, ['hmget', key, 'record', 'holders'])
          const records = (await Promise.all(fresh.map(ask))) as [unknown, unknown][]
          for (const [i, [record, holders]] of records.entries()) {
            // Or it has gone since.
            const isThere = typeof record === 'string' || typeof holders === 'string'
            if (isThere) yield recordIn(keys.idOf(fresh[i] as string), record)
          }
        } while (cursor !== '0')
      }
    },

    async getState(id, key) {
      const name = keys.session(id)
      const entry = await link.send(name, ['hget', name, `state:${wellFormed(key)}`])
      if (typeof entry !== 'string') return undefined
      const blank = entry.indexOf(' ')
      return { value: entry.slice(blank + 1), revision: Number(entry.slice(0, blank)) }
    },

    async setState(id, key, value, expected, limit) {
      const max = limit
        ? [limit.keys, limit.size].map((each) => String(Math.min(each, Number.MAX_SAFE_INTEGER)))
        : ['', '']
      const args = [wellFormed(key), expected === undefined ? '' : String(expected), ...max]
      args.push(String(key.length + (value?.length ?? 0)))
      if (value !== undefined) args.push(value)
      return (await run(link, SET_STATE, [keys.session(id)], args)) as SetStateOutcome
    },
  }
}

/** A holder's name as the hash has it: so no name is the beginning of another one. */
function word(holder: string): string {
  return `${holder} `
}

function heldBy(holders: unknown): Held | undefined {
  return typeof holders === 'string' ? { holders: holders.split(' ').slice(0, -1) } : undefined
}
