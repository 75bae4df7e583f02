import { expect, it } from 'vitest'
import { type SqliteOptions, sqlite } from '../../../src/backend/sqlite.js'

it('sqlite() throws a TypeError for a file that is no path, and says what to write', () => {
  for (const options of [{ file: ':memory:' }, { file: '' }, { file: 5 }, {}]) {
    const attempt = () => sqlite(options as SqliteOptions)
    expect(attempt).toThrow(TypeError)
    expect(attempt).toThrow("sqlite({ file: 'sessions.db' }), or for sessions in memory use mcp-roam/memory")
  }
})

it('sqlite() throws a TypeError for an interval below a millisecond', () => {
  expect(() => sqlite({ file: 'x.db', pollInterval: 0 })).toThrow('`pollInterval` must be a number of at least 1')
})
