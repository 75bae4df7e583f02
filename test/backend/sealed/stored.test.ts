/** What a backend holds when its contents are sealed: nothing to be read, and nothing that can be put elsewhere. */
import { existsSync, readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import pg from 'pg'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Backend, SessionRecord } from '../../../src/backend/backend.js'
import { memory } from '../../../src/backend/memory.js'
import { postgres } from '../../../src/backend/postgres.js'
import { redis } from '../../../src/backend/redis.js'
import { sqlite } from '../../../src/backend/sqlite.js'
import { Unreadable } from '../../../src/backend/unavailable.js'
import { describeWith, postgresUrl, redisUrl, unique } from '../../services/use.js'
import { record } from '../record.js'
import { newFile } from '../sqlite/files.js'
import { K1, K2, ringOf, sealedWith } from './keys.js'

const MINUTE = 60_000
const MARKER = 'plutonium'

/** A session in which everything says the marker. */
function secret(id: string): SessionRecord {
  const initialize = { clientInfo: { name: MARKER }, _meta: { [MARKER]: true } }
  const journal = { initialize, initialized: true, setLevel: { level: MARKER }, subscriptions: [`file:///${MARKER}`] }
  return { ...record(id), principal: `${MARKER}`, protocolVersion: MARKER, ancestors: [1], revision: 2, journal }
}

type Complete = Required<Pick<Backend, 'sessions' | 'events' | 'bus'>> & { sessions: Required<Backend['sessions']> }

async function fill({ sessions, events, bus }: Complete, id: string): Promise<void> {
  expect(await sessions.create(secret(id), MINUTE, 'holder')).toBe(true)
  expect(await sessions.update({ ...secret(id), revision: 3 }, 2, MINUTE)).toBeDefined()
  for (const key of ['a', 'b']) expect(await sessions.setState(id, key, JSON.stringify(MARKER + key))).toBe('ok')
  for (const stream of ['one', 'two', 'standalone']) {
    const writer = stream === 'standalone' ? {} : { writer: 'w' }
    await events.open(id, stream, { head: JSON.stringify([MARKER, stream]), ...writer })
    const batch = [1, 2].map((n) => JSON.stringify({ [MARKER]: stream, n }))
    expect(await events.append(id, stream, { id: 'b', events: batch, ...writer })).toBe(2)
    await events.attach(id, stream, 'r')
  }
  await bus.publish('topic', `${MARKER} on the bus`)
}

interface Made {
  event: string
  head: string
  value: string
}

/** What another backend holds, encrypted with the same key, for a session and a stream, or a key of state, of these names. */
async function made(session: string, name: string): Promise<Made> {
  const raw = memory()
  const { sessions, events } = sealedWith(ringOf(K1), raw)
  await sessions.create(record(session), MINUTE)
  await sessions.setState(session, name, '"v"')
  await events.open(session, name, { head: '"h"' })
  await events.append(session, name, { id: 'b', events: ['"e"'] })
  const slice = await raw.events.read(session, name, 0, 1)
  const value = (await raw.sessions.getState(session, name))?.value
  return { event: slice?.events[0]?.data ?? '', head: slice?.head ?? '', value: value ?? '' }
}

interface Place {
  backend: Backend
  /** All that whoever can read the backend sees. */
  dump(): Promise<string>
}

/** @param open A new, empty one. */
function suite(name: string, open: () => Place): void {
  describe(name, () => {
    const opened = () => {
      const { backend, dump } = open()
      onTestFinished(() => backend.close?.())
      const raw = backend as Complete
      return { raw, ours: sealedWith(ringOf(K1), backend) as Complete, dump }
    }

    it('nothing of what a session says can be found in it', async () => {
      for (const encrypted of [false, true]) {
        const { raw, ours, dump } = opened()
        const messages: string[] = []
        await raw.bus.subscribe('topic', (message) => messages.push(message))
        await fill(encrypted ? ours : raw, 'the-id')
        await expect.poll(() => messages.length).toBe(1)
        const all = `${await dump()} ${messages}`
        expect(all).toContain('the-id')
        // Without encryption, each of what was stored is seen.
        const parts = [
          'file:///plutonium',
          '"plutoniuma',
          'plutoniumb',
          'plutonium","two',
          'standalone","n"',
          'on the bus',
        ]
        const found = parts.filter((part) => all.includes(part) || all.includes(part.replaceAll('"', '\\"')))
        expect(found).toEqual(encrypted ? [] : parts)
        if (encrypted) expect(all).not.toContain(MARKER)
      }
    })

    describe('what is put in the place of another is never served:', () => {
      const isUnreadable = (read: Promise<unknown>) => expect(read).rejects.toBeInstanceOf(Unreadable)

      async function two() {
        const { raw, ours } = opened()
        const ids = [unique(), unique()] as [string, string]
        for (const id of ids) await fill(ours, id)
        expect((await ours.sessions.load(ids[0]))?.record).toEqual({ ...secret(ids[0]), revision: 3 })
        const recordOf = async (id: string) => (await raw.sessions.load(id))?.record as SessionRecord
        const [mine, theirs] = ids
        return { raw, ours, mine, theirs, recordOf }
      }

      it('a record of another session, with its id or the other one', async () => {
        const { raw, ours, mine, theirs, recordOf } = await two()
        const foreign = await recordOf(theirs)
        await raw.sessions.update({ ...foreign, id: mine, revision: 3 }, 3, MINUTE)
        await isUnreadable(ours.sessions.load(mine))
        // As a table whose rows were swapped gives it.
        const swapped = { ...raw, sessions: { ...raw.sessions, load: (_: string) => raw.sessions.load(theirs) } }
        await isUnreadable(sealedWith(ringOf(K1), swapped).sessions.load(mine))
      })

      it('a record whose open part was changed', async () => {
        const { raw, ours, mine: id, recordOf } = await two()
        const before = await recordOf(id)
        for (const change of [{ revision: 9 }, { createdAt: 1 }, { ancestors: [1, 2] }, { ancestors: [] }]) {
          const { revision } = await recordOf(id)
          await raw.sessions.update({ ...before, ...change } as SessionRecord, revision, MINUTE)
          await isUnreadable(ours.sessions.load(id))
        }
        const { revision } = await recordOf(id)
        await raw.sessions.update(before, revision, MINUTE)
        expect((await ours.sessions.load(id))?.record.journal).toEqual(secret(id).journal)
      })

      it('a record in plain text, whatever its version, with or without what was sealed', async () => {
        const { raw, ours, mine: id, recordOf } = await two()
        const before = await recordOf(id)
        for (const version of [1, 2, 3]) {
          for (const rest of [{}, { sealed: 'x' }]) {
            const { revision } = await recordOf(id)
            const forged = { ...secret(id), version, revision: 3, ...rest } as SessionRecord
            await raw.sessions.update(forged, revision, MINUTE)
            await isUnreadable(ours.sessions.load(id))
          }
        }
        const listed = []
        for await (const each of ours.sessions.list()) if (each.id === id) listed.push(each)
        expect(listed).toMatchObject([{ id, version: 2, problem: expect.any(Unreadable) }])
        expect(JSON.stringify(listed)).not.toContain(MARKER)
        await raw.sessions.update(before, 3, MINUTE)
        expect(await ours.sessions.load(id)).toBeDefined()
      })

      it('a value of another session, of another key, in plain text, or that is no value', async () => {
        const { raw, ours, mine, theirs } = await two()
        const [here, there] = [await made(mine, 'a'), await made(theirs, 'a')]
        for (const forged of [there.value, (await made(mine, 'b')).value, '"plain"', here.event, here.head]) {
          await raw.sessions.setState(mine, 'a', forged)
          await isUnreadable(ours.sessions.getState(mine, 'a'))
        }
        expect((await ours.sessions.getState(mine, 'b'))?.value).toBe('"plutoniumb"')
        await raw.sessions.setState(mine, 'a', here.value)
        expect((await ours.sessions.getState(mine, 'a'))?.value).toBe('"v"')
      })

      it('an event or a head of another session or stream, of another kind, or in plain text', async () => {
        const { raw, ours, mine, theirs } = await two()
        for (const [index, wrong] of [
          { session: theirs, kind: 'same' },
          { stream: 'other', kind: 'same' },
          { kind: 'other' },
          { kind: 'value' },
          { kind: 'plain' },
        ].entries()) {
          // All names are right, but for what is wrong.
          const names = [`event-${index}`, `head-${index}`]
          const [event, head] = await Promise.all(
            names.map((stream) => made(wrong.session ?? mine, wrong.stream ?? stream)),
          )
          const pick = (like: Made | undefined, same: 'event' | 'head', other: 'event' | 'head') =>
            ({ same: like?.[same], other: like?.[other], value: like?.value, plain: '{"plain":true}' })[wrong.kind] ??
            ''
          const [inEvent = '', inHead = ''] = names
          await ours.events.open(mine, inEvent, { head: '0' })
          await raw.events.append(mine, inEvent, { id: 'b', events: [pick(event, 'event', 'head')] })
          await isUnreadable(ours.events.read(mine, inEvent, 0, 10))
          await raw.events.open(mine, inHead, { head: pick(head, 'head', 'event') })
          await isUnreadable(ours.events.read(mine, inHead, 0, 10))
          await isUnreadable(ours.events.attach(mine, inHead, 'r'))
        }
        expect((await ours.events.read(mine, 'one', 0, 10))?.events).toHaveLength(2)
        // What is made for the place does open there.
        const right = await made(mine, 'right')
        await raw.events.open(mine, 'right', { head: right.head })
        await raw.events.append(mine, 'right', { id: 'b', events: [right.event] })
        expect(await ours.events.read(mine, 'right', 0, 10)).toMatchObject({ head: '"h"', events: [{ data: '"e"' }] })
      })
    })

    it('keys are rotated: the old one second, then gone, then back', async () => {
      const { raw, ours } = opened()
      const id = unique()
      await fill(ours, id)
      const reads = async (...keys: string[]) => {
        const { sessions, events } = sealedWith(ringOf(...keys), raw as Backend) as Complete
        const all = [
          sessions.load(id),
          sessions.getState(id, 'a'),
          events.read(id, 'one', 0, 9),
          events.attach(id, 'one', 'r'),
        ]
        return (await Promise.allSettled(all)).map(({ status }) => status)
      }
      expect(new Set(await reads(K2, K1))).toEqual(new Set(['fulfilled']))
      expect(new Set(await reads(K2))).toEqual(new Set(['rejected']))
      expect(new Set(await reads(K2, K1))).toEqual(new Set(['fulfilled']))
    })
  })
}

suite('memory', () => {
  const backend = memory()
  const dump = async () => {
    const { sessions, events } = backend
    const parts: unknown[] = []
    for await (const each of sessions.list()) parts.push(each)
    for (const key of ['a', 'b']) parts.push(await sessions.getState('the-id', key))
    for (const stream of ['one', 'two', 'standalone']) parts.push(await events.read('the-id', stream, 0, 10))
    return JSON.stringify(parts).replaceAll('\\', '')
  }
  return { backend, dump }
})

suite('SQLite', () => {
  const file = newFile()
  const read = (suffix: string) => (existsSync(file + suffix) ? readFileSync(file + suffix, 'latin1') : '')
  return { backend: sqlite({ file }), dump: async () => ['', '-wal', '-shm'].map(read).join() }
})

describeWith('on a server', await redisUrl(), (url) => {
  suite('Redis', () => {
    const prefix = unique()
    const dump = async () => {
      const client = new Redis(url)
      const parts: unknown[] = []
      for (const key of await client.keys(`${prefix}*`)) {
        const read = {
          string: () => client.get(key),
          hash: () => client.hgetall(key),
          list: () => client.lrange(key, 0, -1),
          zset: () => client.zrange(key, '0', '-1'),
        }[await client.type(key)]
        if (!read) throw new Error(`nothing here reads ${await client.type(key)}`)
        parts.push(key, await read())
      }
      client.disconnect()
      return JSON.stringify(parts).replaceAll('\\', '')
    }
    return { backend: redis({ url, prefix }), dump }
  })
})

describeWith('on a server', await postgresUrl(), (url) => {
  suite('PostgreSQL', () => {
    const schema = unique()
    const backend = postgres({ url, schema })
    const pool = new pg.Pool({ connectionString: url, max: 1 })
    onTestFinished(async () => {
      await pool.query(`drop schema if exists ${schema} cascade`)
      await pool.end()
    })
    const dump = async () => {
      const tables = await pool.query('select tablename from pg_tables where schemaname = $1', [schema])
      const rows = tables.rows.map(({ tablename }) => pool.query(`select * from ${schema}."${tablename}"`))
      return JSON.stringify((await Promise.all(rows)).map((each) => each.rows)).replaceAll('\\', '')
    }
    return { backend, dump }
  })
})
