/** Session records that no release of this library writes, as they may stand in a store that others write, too. */
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import { bounded, Unavailable } from '../../src/backend/bounded.js'
import { Unreadable } from '../../src/backend/unavailable.js'
import { scripted } from '../harness/scripted-server.js'
import { serve, sessionIds } from '../harness/serve.js'
import { openSession } from '../harness/wire-client.js'
import { unique } from '../services/use.js'
import { record } from './record.js'

const MINUTE = 60_000

/** The text of a record with some members changed; undefined takes one out. */
const having = (changes: object) => (id: string) => JSON.stringify({ ...record(id), ...changes })
const journal = (changes: object) => having({ journal: { ...record('').journal, ...changes } })

const UNFIT: Record<string, (id: string) => string> = {
  'not JSON': () => 'not JSON',
  'an empty text': () => '',
  'cut off in the middle': (id) => JSON.stringify(record(id)).slice(0, 60),
  null: () => 'null',
  'a number': () => '7',
  'a string': (id) => JSON.stringify(id),
  'an array': (id) => JSON.stringify([record(id)]),
  'an empty object': () => '{}',
  'no version': having({ version: undefined }),
  'a version that is no number': having({ version: '1' }),
  'a later version': having({ version: 2 }),
  'no id': having({ id: undefined }),
  'an id that is no string': having({ id: 7 }),
  "another session's record": () => JSON.stringify(record('another')),
  'no revision': having({ revision: undefined }),
  'a revision that is a string': having({ revision: '1' }),
  'a revision that is no whole number': having({ revision: 1.5 }),
  'ancestors that are no array': having({ ancestors: 3 }),
  'ancestors that are no numbers': having({ ancestors: [1, 'x'] }),
  'no time of creation': having({ createdAt: undefined }),
  'a time of creation that is a string': having({ createdAt: '2025-11-25' }),
  'no principal': having({ principal: undefined }),
  'a principal that is an object': having({ principal: {} }),
  'no protocol version': having({ protocolVersion: undefined }),
  'a protocol version that is a number': having({ protocolVersion: 20251125 }),
  'no journal': having({ journal: undefined }),
  'a journal that is null': having({ journal: null }),
  'a journal that is an array': having({ journal: [] }),
  'no initialize': journal({ initialize: undefined }),
  'an initialize that is a string': journal({ initialize: 'x' }),
  'initialized that is no boolean': journal({ initialized: 'yes' }),
  'a log level that is no object': journal({ setLevel: 'info' }),
  'no subscriptions': journal({ subscriptions: undefined }),
  'subscriptions that are an object': journal({ subscriptions: {} }),
  'subscriptions that are no strings': journal({ subscriptions: ['a:b', null] }),
}

export interface Place {
  backend: Backend
  /** Puts a text where the record of a session is. */
  overwrite(id: string, text: string): Promise<void>
}

/** @param open A place with no sessions, which is closed with the test. */
export function certifyUnfit(title: string, open: () => Promise<Place>, kinds = Object.keys(UNFIT)): void {
  describe(`${title}: a record that cannot be served`, () => {
    it.each(kinds)('%s: its session is unavailable, others are listed, and it can be deleted', async (kind) => {
      const { backend, overwrite } = await open()
      const errors: Error[] = []
      const handler = serve(scripted(), { backend, onerror: (error) => errors.push(error) })
      const good = await openSession(handler)
      const bad = await openSession(handler)
      await overwrite(bad.sessionId, UNFIT[kind]?.(bad.sessionId) ?? '')

      // a node that has not had it
      const other = serve(scripted(), { backend, onerror: (error) => errors.push(error) })
      bad.on(other)
      for (const answer of [await bad.request('ping'), await bad.delete(), await (await bad.get()).answer()]) {
        expect(answer.status).toBe(503)
      }
      expect(errors).toContainEqual(expect.any(Unreadable))
      await expect(other.sessions.get(bad.sessionId)).rejects.toThrow(Unavailable)

      errors.length = 0
      expect(await sessionIds(other)).toEqual([good.sessionId])
      expect(errors).toEqual([expect.objectContaining({ message: 'backend: list skipped 1 session records' })])
      expect(errors[0]?.cause).toBeInstanceOf(Unreadable)

      expect(await other.sessions.delete(bad.sessionId)).toBe(true)
      expect(await other.sessions.delete(bad.sessionId)).toBe(false)
      expect((await bad.request('ping')).status).toBe(404)
      errors.length = 0
      expect(await sessionIds(other)).toEqual([good.sessionId])
      expect(errors).toEqual([])
    })

    it('many: each is passed over, wherever it stands among the others', async () => {
      const { backend, overwrite } = await open()
      const ids = Array.from({ length: 24 }, () => unique())
      for (const id of ids) await backend.sessions.create(record(id), MINUTE)
      const bad = ids.filter((_, i) => i % 3 === 0)
      for (const [i, id] of bad.entries()) await overwrite(id, UNFIT[kinds[i % kinds.length] as string]?.(id) ?? '')
      const errors: Error[] = []
      const listed: string[] = []
      const { sessions } = bounded(backend, 5_000, (error) => errors.push(error))
      for await (const { id } of sessions.list()) listed.push(id)
      const all: string[] = []
      for await (const { id } of sessions.list('all')) all.push(id)
      expect(all.toSorted()).toEqual(ids.toSorted())
      expect(listed.sort()).toEqual(ids.filter((id) => !bad.includes(id)).sort())
      expect(errors.map(({ message }) => message)).toEqual([`backend: list skipped ${bad.length} session records`])
    })
  })
}

/** What JSON.stringify can make of something that says itself what to store. */
export const STORABLE = Object.keys(UNFIT).filter((kind) => {
  try {
    return JSON.parse(UNFIT[kind]?.('x') ?? '') !== undefined
  } catch {
    return false
  }
})

/** Closes a backend with its test. */
export function closing<T extends Backend>(backend: T): T {
  onTestFinished(async () => backend.close?.())
  return backend
}
