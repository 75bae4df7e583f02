import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { displayName, parseBackendUrl } from '../../src/cli/backend/backend-url.js'
import { defaultFile, stateFolder } from '../../src/cli/backend/default-file.js'

describe('a backend URL', () => {
  it.each([
    ['memory:', { kind: 'memory' }],
    ['sqlite:/var/lib/roam.db', { kind: 'sqlite', file: '/var/lib/roam.db' }],
    ['sqlite:///var/lib/roam.db', { kind: 'sqlite', file: '/var/lib/roam.db' }],
    ['SQLite:roam.db', { kind: 'sqlite', file: resolve('roam.db') }],
    ['sqlite:~/roam.db', { kind: 'sqlite', file: join(homedir(), 'roam.db') }],
    ['sqlite:a?b#c%20d', { kind: 'sqlite', file: resolve('a?b#c%20d') }],
  ])('%s is understood', (text, url) => {
    expect(parseBackendUrl(text)).toEqual(url)
  })

  it.each([
    'sqlite:',
    'sqlite://host/file',
    'sqlite::memory:',
    'memory:x',
    'sessions.db',
    '',
    'mysql://root:secret@db',
    'redis:secret',
    'redis://',
    'redis://me:secret@db/name',
    'redis://me:1/secret@db',
    'postgres://me:sec#ret@db/x',
    'postgres://me:1/secret@db/x',
    'me:secret@db',
    'nats://secret@db',
  ])('%j is refused in one line that shows no password', (text) => {
    expect(() => parseBackendUrl(text)).toThrow(/^[^\n]*$/)
    expect(() => parseBackendUrl(text)).not.toThrow(/secret/)
  })
})

describe('the address of a server', () => {
  it.each([
    ['redis://db', 'redis', 'redis://db:6379', 'db:6379'],
    ['REDISS://me:secret@db.internal:7000/3', 'redis', 'rediss://db.internal:7000/3', 'db.internal:7000'],
    ['valkey://:secret@[::1]', 'redis', 'redis://[::1]:6379', '[::1]:6379'],
    ['postgres://me:s%40secret@db/app?sslmode=disable', 'postgres', 'postgres://db:5432/app', 'db:5432'],
    ['postgresql:///app?host=/run/postgresql&password=secret', 'postgres', 'postgresql:///run/postgresql:5432/app', ''],
  ])('%s is understood, and named without its password', (text, kind, name, host) => {
    const url = parseBackendUrl(text)
    expect(url).toMatchObject({ kind, name })
    if (host) expect(url).toMatchObject({ host })
    expect(displayName(url)).not.toMatch(/secret|%40/)
  })
})

describe('the default file', () => {
  it('is in the state folder of the user, as each system has it', () => {
    expect(stateFolder('linux', {}, '/home/me')).toBe('/home/me/.local/state/mcp-roam')
    expect(stateFolder('linux', { XDG_STATE_HOME: '/state' }, '/home/me')).toBe('/state/mcp-roam')
    expect(stateFolder('linux', { XDG_STATE_HOME: 'relative' }, '/home/me')).toBe('/home/me/.local/state/mcp-roam')
    expect(stateFolder('darwin', {}, '/Users/me')).toBe('/Users/me/Library/Application Support/mcp-roam')
    expect(stateFolder('win32', { LOCALAPPDATA: '/local' }, '/me')).toBe(join('/local', 'mcp-roam'))
  })

  it('is the same for the same command line in the same folder, and no other', () => {
    const file = defaultFile(['/usr/bin/node', 'server.js'], '/a')
    expect(file).toMatch(/[\\/]node-[0-9a-f]{12}\.db$/)
    expect(defaultFile(['/usr/bin/node', 'server.js'], '/a')).toBe(file)
    expect(defaultFile(['/usr/bin/node', 'server.js'], '/b')).not.toBe(file)
    expect(defaultFile(['/usr/bin/node', 'server.js', 'x'], '/a')).not.toBe(file)
    expect(defaultFile(['/usr/bin/node', 'server.js x'], '/a')).not.toBe(
      defaultFile(['/usr/bin/node', 'server.js', 'x'], '/a'),
    )
  })
})
