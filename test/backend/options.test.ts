/** What every backend says of options that are of no use. What only one of them has is in that backend's own test. */
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { postgres } from '../../src/backend/postgres.js'
import { redis } from '../../src/backend/redis.js'
import { sqlite } from '../../src/backend/sqlite.js'

const BACKENDS: [string, (options: unknown) => unknown, object][] = [
  ['memory', (options) => memory(options as Parameters<typeof memory>[0]), {}],
  ['sqlite', (options) => sqlite(options as Parameters<typeof sqlite>[0]), { file: 'x.db' }],
  ['redis', (options) => redis(options as Parameters<typeof redis>[0]), { url: 'redis://localhost' }],
  ['postgres', (options) => postgres(options as Parameters<typeof postgres>[0]), { url: 'postgres://localhost/app' }],
]

describe.each(BACKENDS)('%s()', (name, make, needed) => {
  function messageFor(options: unknown): string {
    try {
      make(options)
    } catch (error) {
      expect(error).toBeInstanceOf(TypeError)
      return (error as TypeError).message
    }
    return expect.unreachable('it was accepted')
  }

  test('throws a TypeError for options that are no object, and names those that there are', () => {
    for (const options of [null, 'redis://:hunter2@db', 5]) {
      expect(messageFor(options)).toMatch(new RegExp(`^${name}: write an object; the options are .*\`retention\``))
      expect(messageFor(options)).not.toContain('hunter2')
    }
  })

  test('throws a TypeError for an unknown option, and names those that there are', () => {
    expect(messageFor({ ...needed, retenton: {} })).toMatch(
      new RegExp(`^${name}: there is no option \`retenton\`; the options are .*\`retention\``),
    )
  })

  test('throws a TypeError for an address in the place of a name, without repeating it', () => {
    expect(messageFor({ ...needed, 'redis://:hunter2@db': true })).toMatch(/there is no such option/)
    expect(messageFor({ ...needed, 'redis://:hunter2@db': true })).not.toContain('hunter2')
  })

  test.each(['ttl', 'maxEvents', 'maxBytes', 'maxSessionBytes'])(
    'throws a TypeError for a retention.%s below 1, or that is no number',
    (option) => {
      for (const value of [0, -1, Number.NaN, '10', null, {}]) {
        expect(messageFor({ ...needed, retention: { [option]: value } })).toBe(
          `${name}: \`retention.${option}\` must be a number of at least 1`,
        )
      }
    },
  )

  test('throws a TypeError for an unknown part of the retention, and names those that there are', () => {
    expect(messageFor({ ...needed, retention: { maxSize: 1 } })).toBe(
      `${name}: \`retention\`: there is no option \`maxSize\`; the options are \`ttl\`, \`maxEvents\`, \`maxBytes\`, \`maxSessionBytes\``,
    )
    expect(messageFor({ ...needed, retention: 1000 })).toContain('write an object; the options are `ttl`')
  })
})

test.each(BACKENDS)('%s() takes options that are undefined for left out', (_, make, needed) => {
  expect(() => make({ ...needed, retention: undefined, other: undefined })).not.toThrow()
  expect(() => make({ ...needed, retention: { ttl: 1, maxEvents: undefined } })).not.toThrow()
})

test.each(BACKENDS.slice(0, 2))('%s() throws a TypeError for a clock that is no function', (name, make, needed) => {
  expect(() => make({ ...needed, now: 5 })).toThrow(`${name}: \`now\` must be a function, such as Date.now`)
})
