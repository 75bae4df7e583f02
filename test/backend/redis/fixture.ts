/** What the tests of Redis share. */
import { expect, onTestFinished } from 'vitest'
import type { RedisBackend } from '../../../src/backend/redis.js'
import { record } from '../record.js'

export const MINUTE = 60_000

/** A session with everything that a session can have. */
export async function fill(backend: RedisBackend, id: string): Promise<void> {
  expect(await backend.sessions.create(record(id), MINUTE)).toBe(true)
  expect(await backend.sessions.setState(id, 'key', '1')).toBe('ok')
  for (const stream of ['standalone', '{x}', '']) {
    const owned = stream !== 'standalone'
    expect(await backend.events.open(id, stream, { head: '{}', ...(owned && { writer: 'w' }) })).toBe(true)
    expect(await backend.events.append(id, stream, { id: 'b', writer: 'w', events: ['1', '2'] })).toBe(2)
    await backend.events.attach(id, stream, 'r')
  }
}

/** Deletes such a session. */
export async function empty(backend: RedisBackend, id: string): Promise<void> {
  expect(await backend.sessions.delete(id)).toBeDefined()
  await backend.events.delete(id)
}

/** Closes it when the test is over. */
export function closing<T extends { close(): unknown }>(closeable: T): T {
  onTestFinished(async () => void (await closeable.close()))
  return closeable
}
