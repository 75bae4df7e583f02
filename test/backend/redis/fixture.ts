/** What the tests of Redis share. */
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { expect, onTestFinished } from 'vitest'
import type { RedisBackend, RedisOptions } from '../../../src/backend/redis.js'
import { record } from '../record.js'

export const MINUTE = 60_000

/** The ways to say where one server is. */
export const KINDS: [string, (url: string) => RedisOptions][] = [
  ['by address', (url) => ({ url })],
  ['ioredis', (url) => ({ client: new Redis(url, { lazyConnect: true }) })],
  ['node-redis', (url) => ({ client: createClient({ url }) })],
]

/** A test's own connection, which does not mind what becomes of the server. */
export function connection(url: string): Redis {
  const client = new Redis(url)
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  return client
}

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
