import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { type PostgresOptions, postgres } from '../../../src/backend/postgres.js'

describe('postgres()', () => {
  test.each([
    'http://u:hunter2@db/app',
    'db.internal:5432',
    'postgres//u:hunter2@db',
    'postgres://u:hunter2@db:port/app',
    'postgres://u:4/hunter2@db/app',
    'postgres://u:4#hunter2@db/app',
    'postgres://u:4?hunter2@db/app',
    '',
  ])('throws for the address %j, and says what to write without repeating it', (bad) => {
    const attempt = () => postgres({ url: bad })
    expect(attempt).toThrow('postgres://user:password@host:5432/database')
    expect(attempt).not.toThrow('hunter2')
    expect(() => postgres({ url: 'postgres://localhost/app', listenUrl: bad })).toThrow('`listenUrl`')
  })

  test.each([
    '',
    'a b',
    'a"b',
    "a'b",
    'a.b',
    'a;drop schema public',
    'a$$b',
    'a\\b',
    'a\0b',
    'é',
    '1a',
    '-a',
    'pg_mine',
    'PG_mine',
    'information_schema',
    'a'.repeat(64),
    '"; drop schema public cascade; --',
  ])('throws for the schema %j, and says what to write', (schema) => {
    expect(() => postgres({ url: 'postgres://localhost/app', schema })).toThrow('such as "mcp_roam"')
  })

  test('throws for neither an address nor a pool, for both, and for a pool that is none', () => {
    const untyped: (options: unknown) => unknown = (options) => postgres(options as PostgresOptions)
    for (const options of [{}, { url: 'postgres://localhost', pool: {} }]) {
      expect(() => untyped(options)).toThrow('either `url`')
    }
    for (const pool of [{}, null, new pg.Client(), 'postgres://u:hunter2@db/app', () => {}]) {
      expect(() => untyped({ pool })).toThrow('`pool` must be')
    }
  })
})

test("the backend's name tells where it is, without credentials", () => {
  const backend = postgres({
    url: 'postgres://us%40er:hunter2@db.internal:6432/app?password=hunter2',
    schema: 'mine',
  })
  expect(backend.name).toBe('postgres://db.internal:6432/app#mine')
})

test('an error of a connection that fails tells no password', async () => {
  const backend = postgres({ url: 'postgres://user:hunter2@127.0.0.1:1/app' })
  const error: unknown = await backend.ping().catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(Error)
  expect(JSON.stringify(error) + String(error) + (error as Error).stack).not.toContain('hunter2')
  await expect(backend.sessions.load('x')).rejects.toThrow()
  await expect(backend.bus.subscribe('t', () => {})).rejects.toThrow()
  await backend.close()
  await expect(backend.sessions.load('x')).rejects.toThrow('closed')
})
