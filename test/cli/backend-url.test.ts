import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { defaultFile, parseBackendUrl } from '../../src/cli/backend-url.js'
import { stateFolder } from '../../src/cli/state-folder.js'

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
    'redis://:secret@db',
    'postgres://me:secret@db/x',
    'nats://secret@db',
  ])('%j is refused in one line that shows no password', (text) => {
    expect(() => parseBackendUrl(text)).toThrow(/^[^\n]*$/)
    expect(() => parseBackendUrl(text)).not.toThrow(/secret/)
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
