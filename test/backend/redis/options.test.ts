import { createClient } from 'redis'
import { describe, expect, test } from 'vitest'
import { redis } from '../../../src/backend/redis.js'

describe('redis()', () => {
  test.each([
    ['', /not a URL; write redis:/],
    ['localhost:6379', /the protocol is neither redis: nor rediss:; write redis:/],
    ['127.0.0.1:6379', /not a URL; write redis:/],
    ['http://:secret@localhost', /the protocol is neither redis: nor rediss:; write redis:/],
    ['redis://', /there is no host; write redis:/],
    ['redis://:secret@', /write redis:/],
    ['redis:///0', /there is no host; write redis:/],
    ['redis://user:secret@host:notaport', /not a URL; write redis:/],
    ['redis://user:secret@host/name', /the database is not a number; write redis:/],
  ])('throws for the address %j, and says what to write without repeating it', (url, message) => {
    expect(() => redis({ url })).toThrow(message)
    expect(() => redis({ url })).not.toThrow(/secret/)
  })

  test('throws for a prefix with braces', () => {
    expect(() => redis({ url: 'redis://localhost', prefix: '{a}' })).toThrow(/may contain \{ or \}/)
  })

  test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, '1'])('throws for waitForReplicas: %s', (value) => {
    const options = { url: 'redis://localhost', waitForReplicas: value as number }
    expect(() => redis(options)).toThrow(/`waitForReplicas` must be a whole number/)
  })

  test('throws for a client that is none, and for neither an address nor a client', () => {
    expect(() => redis(JSON.parse('{"client":{}}'))).toThrow(/not a client of ioredis or redis/)
    expect(() => redis(JSON.parse('{"client":"redis://localhost"}'))).toThrow(/not a client of ioredis or redis/)
    expect(() => redis(JSON.parse('{}'))).toThrow(/either `url` .* or `client`/)
  })
})

test("the backend's name has host, port and database of the address, and nothing else of it", () => {
  expect(redis({ url: 'rediss://user:secret@example.com:6380/2?x=secret' }).name).toBe('redis:example.com:6380/2')
  expect(redis({ client: createClient({ url: 'redis://:secret@host' }) }).name).toBe('redis (node-redis)')
})
